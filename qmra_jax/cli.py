"""`qmra`: what users do beside training (train.py) and evaluating (evaluate.py).

JAX is imported inside the commands that need it, so that help and errors come at once.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qmra_jax.cli_weights import app as weights_app
from qmra_jax.errors import InputError, exit_on_input_error

_HELP = """QMRA: a box in one frame of a video becomes a mask in every frame.

\b
Examples:
  qmra segment cat.mp4 --box 120,80,64,48 --output cat
  qmra score --truth DAVIS --predictions runs/val
  qmra weights show weights/qmra-small.safetensors
"""

app = typer.Typer(
    name="qmra",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(weights_app, name="weights")

# In a checkout of the project; an installed package has none and asks for --weights.
DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "qmra-small.safetensors"


class Protocol(StrEnum):
    """How DAVIS scores."""

    davis2017 = "davis2017"
    davis2016 = "davis2016"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")]


def main(arguments: list[str] | None = None) -> None:
    """Runs `qmra`; bad input is one line on standard error and exit status 2."""
    with exit_on_input_error():
        app(arguments, prog_name="qmra")


@app.command()
def segment(
    video: Annotated[
        Path, typer.Argument(metavar="VIDEO_OR_FOLDER", help="A video, or a folder of jpg or png.")
    ],
    box: Annotated[
        list[str],
        typer.Option(metavar="X,Y,WIDTH,HEIGHT", help="In pixels; once for each object."),
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .safetensors of `qmra weights` or of the project; in a checkout, the"
            " project's own is the default.",
        ),
    ] = None,
    frame: Annotated[
        int, typer.Option(metavar="K", help="The frame in which the boxes were drawn.")
    ] = 0,
    short_side: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Larger frames are shrunk to this many pixels on their shorter side for the"
            " network; the masks keep the video's size. Smaller is faster; 0 never shrinks; by"
            " default, the size that the weights file says suits it, or else 480.",
        ),
    ] = None,
    interval: Annotated[
        int, typer.Option(metavar="N", min=1, help="Every N-th frame stays in the memory.")
    ] = 10,
    overwrite: Overwrite = False,
) -> None:
    """Follow objects through a video, each from one box.

    Writes DIR/masks/00000.png and on (palette PNGs: 0 background, 1..n the boxes in their order),
    DIR/overlay.mp4 and DIR/boxes.csv (frame,object,x,y,width,height; empty where not seen). Boxes
    are the network's own, stage 1's B_q, and need not be the masks' tight ones. A folder of images
    plays at 24 frames a second.

    \b
    Examples:
      qmra segment cat.mp4 --box 120,80,64,48 --output cat
      qmra segment frames/ --box 10,20,64,48 --box 200,20,50,90 --output two
      qmra segment cat.mp4 --frame 30 --box 120,80,64,48 --short-side 240 --output cat
    """
    from qmra_jax.segment import Output, check_request, parse_box, segment_video
    from qmra_jax.video import VideoReader

    reader = VideoReader(video)
    target = Output(output)
    boxes = check_request(reader, [parse_box(b) for b in box], frame, target, overwrite=overwrite)
    weights = find_weights(weights)

    import qmra_jax

    module, variables, _ = qmra_jax.load(weights)
    if short_side is None:
        short_side = qmra_jax.weights.suited_short_side(weights) or 480
    propagator = qmra_jax.Propagator(
        module, variables, interval=interval, short_side=short_side or None
    )
    done = segment_video(reader, boxes, propagator, target, frame=frame)
    typer.echo(done.speed())
    for path in (target.masks, target.boxes, target.overlay):
        typer.echo(str(path))


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


@app.command()
def score(
    truth: Annotated[Path, typer.Option(metavar="DAVIS_ROOT", help="Dataset in the DAVIS layout.")],
    predictions: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Holds SEQUENCE/00000.png or Annotations/SEQUENCE/00000.png."
        ),
    ],
    protocol: Annotated[
        Protocol, typer.Option(help="Per object (2017), or all merged into one (2016).")
    ] = Protocol.davis2017,
    split: Annotated[
        str, typer.Option(help="A list under ImageSets; `all` takes every sequence.")
    ] = "val",
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write DIR/scores.json.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a folder of masks: J, F and their mean, as the official DAVIS toolkit does.

    \b
    Examples:
      qmra score --truth DAVIS --predictions runs/val
      qmra score --truth DAVIS --predictions runs/val --protocol davis2016 --output runs/val
    """
    from qmra_jax.scoring import format_table, score_folder, write_scores

    if output is not None and (output / "scores.json").exists() and not overwrite:
        raise InputError(
            f"{output / 'scores.json'} exists: give another --output, or --overwrite to replace it"
        )
    scores = score_folder(
        truth, predictions, protocol=protocol.value, split=None if split == "all" else split
    )
    typer.echo(format_table(scores))
    if output is not None:
        typer.echo(str(write_scores(scores, output)))
