"""`qmra explain`: what the network reads, weighs and predicts in one frame."""

import itertools
import re
from pathlib import Path
from typing import Annotated

import typer

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
from qmra_jax.errors import InputError, require_packages


def explain(
    video: Video,
    frame: Annotated[int, typer.Option(metavar="K", help="Frame to explain, from 0.")],
    output: Annotated[Path, typer.Option(metavar="SHEET.png", help="Sheet to write.")],
    box: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,WIDTH,HEIGHT[@J]",
            help="Box of the object in frame 0, or in frame J before K, in pixels.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of a box: the object's mask in frame 0."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Pixel of frame K whose attention is shown; by default the most probable of those"
            " farthest inside the object's mask.",
        ),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=16, help="Channels to show, of query and memory each."
        ),
    ] = 4,
    npz: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Also write everything drawn as arrays."),
    ] = None,
    weights: Weights = None,
    short_side: ShortSide = None,
    enlarge: Enlarge = None,
    interval: Interval = None,
    max_memory: MaxMemory = None,
    overwrite: Overwrite = False,
) -> None:
    """Show what the network reads, weighs and predicts in one frame.

    The frames before K are segmented first, so that the memory is that of `qmra segment`. The sheet
    shows stage 1's box map B_q, the masks S_q and S_q^r with their differences, one pixel's
    attention over the memory frames, and the channels that the aggregation changes most, with their
    weights (Figure 5 of the paper).

    \b
    Examples:
      qmra explain cat.mp4 --box 120,80,64,48 --frame 40 --output sheet.png
      qmra explain cat.mp4 --box 120,80,64,48 --frame 40 --query 150,96 --output ear.png
    """
    require_packages("qmra explain", "matplotlib", extra="plots")
    from qmra_jax.segmentation.prompt_parsing import read_objects
    from qmra_jax.video.reader import VideoReader

    reader = VideoReader(video)
    if reader.gaps:
        typer.echo(reader.gaps, err=True)
    drawn = read_objects(reader.size, [] if box is None else [box], mask)
    ids = [id for objects in drawn.values() for id in objects.ids]
    if len(ids) != 1:
        raise InputError(f"{len(ids)} objects: expected one; give its --box alone")
    (start, objects), *_ = drawn.items()
    if start < 0:
        raise InputError(f"box {box!r}: expected a frame from 0 on after the @")
    if start >= reader.count > 0:
        raise InputError(f"box {box!r}: frame {start} is past the end of {video}")
    if frame <= start:
        raise InputError(
            f"frame {frame} is not after frame {start}, where the object was drawn: expected a"
            f" frame from {start + 1} on, which has a memory to read"
        )
    reader.frame(frame)  # refuses one past the end at once
    pixel = None if query is None else parse_pixel(query, reader.size)
    inputs = {path.resolve() for path in (*reader.sources, mask) if path is not None}
    _check_output(output, ".png", inputs, overwrite)
    if npz is not None:
        _check_output(npz, ".npz", inputs, overwrite)
    weights = find_weights(weights)

    import numpy as np
    from tqdm import tqdm

    import qmra_jax
    from qmra_jax.explain.sheet import Described, draw_sheet
    from qmra_jax.files import written_whole
    from qmra_jax.runtime.compile_cache import keep_compiled_programs

    keep_compiled_programs()
    module, variables, _ = qmra_jax.load(weights)
    frames = itertools.islice(reader, start, frame + 1)
    total = frame + 1 - start
    explanation = qmra_jax.explain_frame(
        module,
        variables,
        tqdm(frames, total=total, desc="explain", unit="frame"),
        objects.boxes if objects.masks is None else None,
        masks=objects.masks,
        pixel=pixel,
        first=start,
        short_side=short_side,
        enlarge=enlarge,
        interval=interval,
        max_memory=max_memory,
    )
    variant = module.reader, module.aggregator, module.refine, module.align
    sheet = draw_sheet(explanation, Described(video.name, *variant), channels=channels)
    with written_whole(output) as part:
        sheet.savefig(part, format="png")
    typer.echo(str(output))
    if npz is not None:
        with written_whole(npz) as part, part.open("wb") as file:
            np.savez_compressed(file, **explanation.arrays())  # type: ignore[arg-type]
        typer.echo(str(npz))


def parse_pixel(text: str, size: tuple[int, int]) -> tuple[int, int]:
    """Parses the pixel "x,y" of a frame of `size` (height, width).

    Raises:
      InputError: if it is malformed or outside the frame.
    """
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    x, y = (int(match[1]), int(match[2])) if match else (-1, -1)
    height, width = size
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"query {text!r}: expected x,y of a pixel in the {width}x{height} frame, such as"
            f" {width // 2},{height // 2}"
        )
    return x, y


def _check_output(path: Path, suffix: str, inputs: set[Path], overwrite: bool) -> None:
    if path.suffix.lower() != suffix:
        raise InputError(f"output {path}: expected a name that ends in {suffix}")
    if path.resolve() in inputs:
        raise InputError(f"output {path} is also an input: give another name")
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"output {path} exists: give another name, or --overwrite to replace it")
