"""Options of `qmra segment` and `qmra explain`, with defaults and checks."""

from pathlib import Path
from typing import Annotated

import typer

from qmra_jax.errors import InputError, whole_number

# In the wheel, or in a checkout.
_PLACES = (Path(__file__).parents[1] / "pretrained", Path(__file__).parents[2] / "weights")
_FILES = [folder / "qmra-base.safetensors" for folder in _PLACES]
DEFAULT_WEIGHTS = next((file for file in _FILES if file.is_file()), _FILES[-1])


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
        help="A .safetensors file, such as `qmra weights` makes; by default qmra-base.",
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=_at_least_or_0("--short-side", 16, " pixels", "to shrink no frame"),
        help="Resize frames to this shorter side, in pixels, for the network; output keeps the"
        " video's size. Smaller is faster; 0 never resizes. By default the size stored in the"
        " weights file, or 480.",
    ),
]
Enlarge = Annotated[
    bool | None,
    typer.Option(
        help="Whether to enlarge frames smaller than --short-side. By default if the weights file"
        " states a size."
    ),
]
Interval = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Keep every N-th frame in the memory. By default as stored in the weights file, or"
        " 10.",
    ),
]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=_at_least_or_0("--max-memory", 2, " frames", "for no bound"),
        help="Most frames in the memory; more are thinned out evenly, so that videos of any"
        " length fit. 0 keeps all: memory and time then grow with the video. Without effect on"
        " videos of up to (N - 1) x interval frames. By default as stored in the weights file, or"
        " 20.",
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
