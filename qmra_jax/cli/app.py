"""The `qmra` command. Training and evaluation are train.py and evaluate.py.

JAX is imported inside the commands that need it, so that help and errors are fast.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import qmra_jax
from qmra_jax.cli.explain import explain
from qmra_jax.cli.options import (
    Enlarge,
    Interval,
    MaxMemory,
    Overwrite,
    ShortSide,
    Video,
    Weights,
    find_weights,
)
from qmra_jax.cli.score import score
from qmra_jax.cli.weights import app as weights_app
from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.plugins import load_plugins

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


CUTOUTS = ("png", "webm")
ComputeDtype = StrEnum("ComputeDtype", ["float32", "bfloat16"])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qmra {qmra_jax.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Import a plugin: readers, aggregators, ... of yours."),
    ] = None,
) -> None:
    load_plugins(plugin or ())


def main(arguments: list[str] | None = None) -> None:
    """Runs `qmra`; bad input is one line on standard error and exit status 2."""
    with exit_on_input_error():
        app(arguments, prog_name="qmra")


@app.command()
def segment(
    video: Video,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")],
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,WIDTH,HEIGHT[@K]",
            help="Box of an object in pixels; repeat for more. @K: it enters in frame K, from 0.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A label map: labels become the objects' ids, and their tight boxes the input.",
        ),
    ] = None,
    frame: Annotated[
        int, typer.Option(metavar="K", help="Frame of the mask and of boxes without @K.")
    ] = 0,
    masks: Annotated[bool, typer.Option(help="Write DIR/masks/00000.png, ...")] = True,
    overlay: Annotated[bool, typer.Option(help="Write DIR/overlay.mp4.")] = True,
    boxes: Annotated[bool, typer.Option(help="Write DIR/boxes.csv.")] = True,
    mot: Annotated[bool, typer.Option("--mot", help="Write DIR/mot.txt (MOTChallenge).")] = False,
    coco: Annotated[bool, typer.Option("--coco", help="Write DIR/coco.json (RLE masks).")] = False,
    cutout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="png|webm",
            help="Write transparent DIR/cutout/00000.png, ... or DIR/cutout.webm.",
        ),
    ] = None,
    weights: Weights = None,
    short_side: ShortSide = None,
    enlarge: Enlarge = None,
    interval: Interval = None,
    max_memory: MaxMemory = None,
    merge: Annotated[
        str, typer.Option(metavar="NAME", help="Of several objects: softmax or soft_aggregation.")
    ] = "softmax",
    dtype: Annotated[
        ComputeDtype | None, typer.Option(help="To compute in; by default the weights file's.")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Frames that cannot be decoded repeat the last mask and are listed."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Segment objects throughout a video, each from one box.

    Writes DIR/masks (palette PNGs: 0 background, else the object's id; boxes get 1, 2, ... in
    order), DIR/overlay.mp4 and DIR/boxes.csv (frame,object,x,y,width,height; empty where the object
    is not visible). The CSV has the boxes that the network predicts, B_q of stage 1; --mot and
    --coco have the tight boxes of the masks. Objects of the earliest frame are tracked forwards and
    backwards, later ones forwards. The overlay keeps the video's timing; images play at 24 fps.

    \b
    Examples:
      qmra segment cat.mp4 --box 120,80,64,48 --output cat
      qmra segment 'frames/*.jpg' --box 10,20,64,48 --box 200,20,50,90@30 --output two
      qmra segment cat.mp4 --frame 30 --mask cat.png --mot --coco --cutout webm --output cat
    """
    from qmra_jax.segmentation.outputs import Output
    from qmra_jax.segmentation.prompt_parsing import read_objects
    from qmra_jax.segmentation.segment_video import check_request, segment_video
    from qmra_jax.video.reader import VideoReader

    chosen = {"masks": masks, "overlay": overlay, "boxes": boxes, "mot": mot, "coco": coco}
    kinds = [kind for kind, wanted in chosen.items() if wanted]
    cutouts = {kind for text in cutout or () for kind in text.split(",")}
    if unknown := cutouts.difference(CUTOUTS):
        raise InputError(f"--cutout {min(unknown)!r}: expected png, webm or png,webm")
    kinds += [f"cutout-{kind}" for kind in CUTOUTS if kind in cutouts]
    reader = VideoReader(video)
    if reader.gaps:
        typer.echo(reader.gaps, err=True)
    target = Output(output)
    objects = read_objects(reader.size, box or (), mask, frame=frame)
    check_request(reader, objects, target, kinds, overwrite=overwrite, skip_bad=skip_bad)
    weights = find_weights(weights)

    from qmra_jax.runtime.compile_cache import keep_compiled_programs

    keep_compiled_programs()
    module, variables, _ = qmra_jax.load(weights)
    if dtype is not None:
        module = module.clone(dtype=dtype.value)
    propagator = qmra_jax.Propagator(
        module,
        variables,
        interval=interval,
        short_side=short_side,
        enlarge=enlarge,
        merge=merge,
        max_memory=max_memory,
    )
    if propagator.enlarge and min(reader.size) < propagator.short_side:
        height, width = reader.size
        typer.echo(
            f"frames of {width}x{height} are enlarged to a short side of"
            f" {propagator.short_side} for the network (--no-enlarge keeps their size)",
            err=True,
        )
    done = segment_video(reader, objects, propagator, target, kinds, skip_bad=skip_bad)
    typer.echo(done.speed())
    typer.echo(done.visibility())
    for path in done.paths:
        typer.echo(str(path))
    if done.damage():
        typer.echo(done.damage(), err=True)
