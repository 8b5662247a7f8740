"""`qmra`: what users do beside training (train.py) and evaluating (evaluate.py).

JAX is imported inside the commands that need it, so that help and errors come at once.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qmra_jax.cli_explain import explain
from qmra_jax.cli_score import score
from qmra_jax.cli_weights import app as weights_app
from qmra_jax.errors import InputError, exit_on_input_error

_HELP = """QMRA: a box in one frame of a video becomes a mask in every frame.

\b
Examples:
  qmra segment cat.mp4 --box 120,80,64,48 --output cat
  qmra explain cat.mp4 --box 120,80,64,48 --frame 40 --output sheet.png
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
app.command()(explain)
app.command()(score)
app.add_typer(weights_app, name="weights")

# In a checkout of the project; an installed package has none and asks for --weights.
DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "qmra-small.safetensors"
# Frames in memory, unless asked otherwise: clips to 190 frames are as without a bound, and five
# objects at 480p keep 0.3 GB with the small network, 1 GB with the paper's.
MAX_MEMORY = 20


class Cutout(StrEnum):
    """Of transparent pictures."""

    png = "png"
    webm = "webm"


class Dtype(StrEnum):
    """Of the network's computation."""

    float32 = "float32"
    bfloat16 = "bfloat16"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")]


def main(arguments: list[str] | None = None) -> None:
    """Runs `qmra`; bad input is one line on standard error and exit status 2."""
    with exit_on_input_error():
        app(arguments, prog_name="qmra")


@app.command()
def segment(
    video: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO", help="A video, a folder of jpg or png, or a glob in quotes."
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")],
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,WIDTH,HEIGHT[@K]",
            help="In pixels; once for each object. @K: it enters in frame K, counted from 0.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A label map, whose labels stay the objects' ids; the network takes their tight"
            " boxes.",
        ),
    ] = None,
    frame: Annotated[
        int, typer.Option(metavar="K", help="The frame of the mask and of boxes without @K.")
    ] = 0,
    masks: Annotated[bool, typer.Option(help="DIR/masks/00000.png and on.")] = True,
    overlay: Annotated[bool, typer.Option(help="DIR/overlay.mp4.")] = True,
    boxes: Annotated[bool, typer.Option(help="DIR/boxes.csv.")] = True,
    mot: Annotated[bool, typer.Option("--mot", help="DIR/mot.txt, MOTChallenge's text.")] = False,
    coco: Annotated[bool, typer.Option("--coco", help="DIR/coco.json, with RLE masks.")] = False,
    cutout: Annotated[
        list[Cutout] | None,
        typer.Option(help="DIR/cutout/00000.png and on, or DIR/cutout.webm: transparent."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .safetensors of `qmra weights` or of the project; in a checkout, the"
            " project's own is the default.",
        ),
    ] = None,
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
    max_memory: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Frames that the memory may hold: past it they are thinned evenly, so that a video"
            " of any length fits. 0: every one that --interval keeps, as evaluate.py does by"
            " default, and memory and time grow with the video. Up to (N - 1) x interval frames"
            " both are the same.",
        ),
    ] = MAX_MEMORY,
    merge: Annotated[
        str, typer.Option(metavar="NAME", help="Of objects: softmax or soft_aggregation.")
    ] = "softmax",
    dtype: Annotated[
        Dtype | None, typer.Option(help="Of the computation; by default the weights file's.")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Frames that cannot be decoded carry the last mask, and are named."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Follow objects through a video, each from one box.

    Writes DIR/masks (palette PNGs: 0 background, else the object's id; boxes get 1, 2, ... in
    their order), DIR/overlay.mp4 and DIR/boxes.csv (frame,object,x,y,width,height; empty where not
    seen). These are the network's own boxes, stage 1's B_q, and need not be the masks' tight ones,
    which --mot and --coco give. The objects of the earliest frame are followed both ways, later
    ones from their frame on. The overlay has the video's own times; images play at 24 a second.

    \b
    Examples:
      qmra segment cat.mp4 --box 120,80,64,48 --output cat
      qmra segment 'frames/*.jpg' --box 10,20,64,48 --box 200,20,50,90@30 --output two
      qmra segment cat.mp4 --frame 30 --mask cat.png --mot --coco --cutout webm --output cat
    """
    from qmra_jax.objects import read_objects
    from qmra_jax.outputs import Output
    from qmra_jax.segment import check_request, segment_video
    from qmra_jax.video import VideoReader

    chosen = {
        "masks": masks,
        "overlay": overlay,
        "boxes": boxes,
        "mot": mot,
        "coco": coco,
        "cutout-png": Cutout.png in (cutout or ()),
        "cutout-webm": Cutout.webm in (cutout or ()),
    }
    kinds = [kind for kind, wanted in chosen.items() if wanted]
    reader = VideoReader(video)
    if reader.gaps:
        typer.echo(reader.gaps, err=True)
    target = Output(output)
    objects = read_objects(reader.size, box or (), mask, frame=frame)
    check_request(reader, objects, target, kinds, overwrite=overwrite, skip_bad=skip_bad)
    weights = find_weights(weights)

    import qmra_jax
    from qmra_jax.compile_cache import keep_compiled_programs

    keep_compiled_programs()
    module, variables, _ = qmra_jax.load(weights)
    if dtype is not None:
        module = module.clone(dtype=dtype.value)
    if short_side is None:
        short_side = qmra_jax.weights.suited_short_side(weights) or 480
    propagator = qmra_jax.Propagator(
        module,
        variables,
        interval=interval,
        short_side=short_side or None,
        merge=merge,
        max_memory=max_memory or None,
    )
    done = segment_video(reader, objects, propagator, target, kinds, skip_bad=skip_bad)
    typer.echo(done.speed())
    for path in done.paths:
        typer.echo(str(path))
    if done.damage():
        typer.echo(done.damage(), err=True)


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
