"""Options of `qmra segment` and `qmra explain`, with defaults and checks."""

from pathlib import Path
from typing import Annotated

import typer

from qmra_jax.errors import InputError, whole_number

# In a checkout; an installed package has no weights, so --weights is required.
DEFAULT_WEIGHTS = Path(__file__).parents[2] / "weights" / "qmra-base.safetensors"
SHORT_SIDE = 480  # pixels, unless the command or the weights file says otherwise
INTERVAL = 10  # frames
# Memory frames: without effect on clips of up to 190 frames; five objects at 480p take 0.3 GB with
# the small network, 1 GB with the paper's.
MAX_MEMORY = 20


def _at_least_or_0(name: str, least: int, unit: str, meaning_of_0: str):
    """A callback that checks the lower bound of an option that may also be 0."""

    def check(value: int | None) -> int | None:
        if value:
            whole_number(value, name, least, f"{unit}, or 0 {meaning_of_0}")
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
        help="A .safetensors file, such as `qmra weights` makes; by default the checkout's"
        " weights/qmra-base.safetensors.",
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=_at_least_or_0("--short-side", 16, " pixels", "to shrink no frame"),
        help="Shrink larger frames to this shorter side, in pixels, for the network; output keeps"
        " the video's size. Smaller is faster; 0 never shrinks. By default the size stored in the"
        f" weights file, or {SHORT_SIDE}.",
    ),
]
Interval = Annotated[
    int, typer.Option(metavar="N", min=1, help="Keep every N-th frame in the memory.")
]
MaxMemory = Annotated[
    int,
    typer.Option(
        metavar="N",
        callback=_at_least_or_0("--max-memory", 2, " frames", "for no bound"),
        help="Most frames in the memory; more are thinned out evenly, so that videos of any"
        " length fit. 0 keeps all, as evaluate.py does by default: memory and time then grow with"
        " the video. Without effect on videos of up to (N - 1) x interval frames.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]


def find_weights(path: Path | None) -> Path:
    """The given weights file, or by default the checkout's.

    Raises:
      InputError: if there is no such file.
    """
    if path is None and not DEFAULT_WEIGHTS.is_file():
        raise InputError(
            f"no --weights given, and {DEFAULT_WEIGHTS} does not exist: give --weights FILE, from"
            " the project's weights/ folder or made by `qmra weights export`"
        )
    if path is not None and not path.is_file():
        raise InputError(f"weights {path} not found: expected a .safetensors file")
    return path or DEFAULT_WEIGHTS


def network_size(short_side: int | None, weights: Path) -> int | None:
    """The shorter side to shrink frames to in pixels, by default the weights' own; None: never."""
    from qmra_jax.weights.safetensors_model import suited_short_side

    if short_side is None:
        short_side = suited_short_side(weights) or SHORT_SIDE
    return short_side or None
