"""Options that `qmra segment` and `qmra explain` share, with their defaults and checks."""

from pathlib import Path
from typing import Annotated

import typer

from qmra_jax.errors import InputError, whole_number

# In a checkout of the project; an installed package has none and asks for --weights.
DEFAULT_WEIGHTS = Path(__file__).parents[2] / "weights" / "qmra-small.safetensors"
SHORT_SIDE = 480  # pixels, where neither the command nor the weights file says one
INTERVAL = 10  # frames
# Frames in memory, unless asked otherwise: clips to 190 frames are as without a bound, and five
# objects at 480p keep 0.3 GB with the small network, 1 GB with the paper's.
MAX_MEMORY = 20


def _or_0(name: str, least: int, unit: str, what_0_is: str):
    """A check of an option of which 0 means none: before anything is read."""

    def check(value: int | None) -> int | None:
        if value:
            whole_number(value, name, least, f"{unit}, or 0 {what_0_is}")
        return value

    return check


Video = Annotated[
    Path,
    typer.Argument(metavar="VIDEO", help="A video, a folder of jpg or png, or a glob in quotes."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A .safetensors of `qmra weights` or of the project; in a checkout, the"
        " project's own is the default.",
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=_or_0("--short-side", 16, " pixels", "to shrink no frame"),
        help="Larger frames are shrunk to this many pixels on their shorter side for the"
        " network; what is written keeps the video's size. Smaller is faster; 0 never shrinks; by"
        f" default, the size that the weights file says suits it, or else {SHORT_SIDE}.",
    ),
]
Interval = Annotated[
    int, typer.Option(metavar="N", min=1, help="Every N-th frame stays in the memory.")
]
MaxMemory = Annotated[
    int,
    typer.Option(
        metavar="N",
        callback=_or_0("--max-memory", 2, " frames", "for no bound"),
        help="Frames that the memory may hold: past it they are thinned evenly, so that a video"
        " of any length fits. 0: every one that --interval keeps, as evaluate.py does by"
        " default, and memory and time grow with the video. Up to (N - 1) x interval frames"
        " both are the same.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]


def find_weights(path: Path | None) -> Path:
    """The weights file that was named, or else the checkout's own.

    Raises:
      InputError: if there is no such file.
    """
    if path is None and not DEFAULT_WEIGHTS.is_file():
        raise InputError(
            f"no --weights given, and {DEFAULT_WEIGHTS} does not exist: give --weights FILE, a file"
            " of the project's weights/ folder or one made by `qmra weights export`"
        )
    if path is not None and not path.is_file():
        raise InputError(f"weights {path} not found: expected a .safetensors file")
    return path or DEFAULT_WEIGHTS


def network_size(short_side: int | None, weights: Path) -> int | None:
    """The shorter side to which frames are shrunk: as asked, or as suits the weights.

    Returns:
      pixels; None to shrink nothing.
    """
    from qmra_jax.weights.safetensors_model import suited_short_side

    if short_side is None:
        short_side = suited_short_side(weights) or SHORT_SIDE
    return short_side or None
