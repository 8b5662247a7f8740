"""Plots of J over time, and frames with true and predicted masks, for reports."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from qmra_jax.drawing import overlay, strip
from qmra_jax.errors import InputError
from qmra_jax.images import read_image, size_text
from qmra_jax.masks import VOID, foreground, read_labels
from qmra_jax.plots import COLOURS, bare, colour, new_figure
from qmra_jax.scoring.tasks import Task

_HEIGHT = 170  # of each picture, in pixels
_COLUMNS = 4  # pictures per row
_DARK = 40  # grey level behind masks without a frame
_SUFFIXES = (".jpg", ".jpeg", ".png")


def frames_folder(task: Task, images: Path | None) -> Path | None:
    """Finds the folder of a sequence's frames.

    Args:
      task: the sequence.
      images: root of a dataset, or its `JPEGImages`; None looks beside the annotations and
        returns None if there are no frames.

    Raises:
      InputError: if the folder is missing under `images`.
    """
    if images is None:
        parent = task.truth[0].parent.parent
        parts = list(parent.parts)
        if "Annotations" in parts:
            parts[len(parts) - 1 - parts[::-1].index("Annotations")] = "JPEGImages"
        beside = Path(*parts) / task.name
        return beside if beside.is_dir() and parts != list(parent.parts) else None
    inside = Path(images) / "JPEGImages"
    parents = [inside / "480p", inside, Path(images) / "480p", Path(images)]
    folder = next((p / task.name for p in parents if (p / task.name).is_dir()), None)
    if folder is None:
        raise InputError(
            f"images {images}: expected frames of sequence {task.name} in"
            f" JPEGImages/{task.name}/ or JPEGImages/480p/{task.name}/"
        )
    return folder


def over_time(
    lines: Mapping[str, Sequence[float | None]],
    names: Sequence[str],
    *,
    thin: Mapping[str, Sequence[float | None]] | None = None,
) -> Figure:
    """Plots measures over frames, each line in its `plots.colour`, without a legend.

    Args:
      lines: values in [0, 1] by frame, None for a gap; dashed where colours repeat.
      names: of the frames, for the axis.
      thin: further lines, such as objects, drawn thin in the first line's colour.
    """
    figure = new_figure(1060, 250)
    axes = figure.add_axes((0.06, 0.19, 0.915, 0.77))
    bare(axes, grid="y")
    for label, line in (thin or {}).items():
        _draw_line(axes, label, line, color=colour(0), linewidth=1, alpha=0.35)
    for k, (label, line) in enumerate(lines.items()):
        style = "--" if k >= len(COLOURS) else "-"
        _draw_line(axes, label, line, color=colour(k), linewidth=2, linestyle=style)
    axes.axhline(0.5, color="#999", linewidth=1, zorder=0.6)  # the threshold of recall
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.margins(x=0.01)
    ticks = np.unique(np.linspace(0, len(names) - 1, min(len(names), 6)).round().astype(int))
    axes.set_xticks(ticks, [names[k] for k in ticks], parse_math=False)
    axes.set_xlabel("frame")
    axes.set_ylabel("J")
    return figure


def _draw_line(axes, label: str, values: Sequence[float | None], **style) -> None:
    """Draws a line, with a dot for each isolated value."""
    y = np.array([np.nan if value is None else value for value in values], float)
    seen = np.pad(np.isfinite(y), 1)
    alone = np.flatnonzero(seen[1:-1] & ~seen[:-2] & ~seen[2:])
    axes.plot(y, label=label, marker="o", markersize=3, markevery=alone.tolist(), **style)


def picture(
    task: Task,
    frame: str,
    folder: Path | None,
    predicted: Mapping[str, Path],
    captions: Mapping[str, str],
    *,
    merged: bool = False,
) -> str:
    """Draws the true mask of a frame, then each method's: a `data:` URL of a JPEG.

    Args:
      task: the sequence.
      frame: name of the frame, without suffix.
      folder: of the sequence's frames; None draws masks on a dark background.
      predicted: folder of each method's masks.
      captions: of each method.
      merged: all objects are one, and masks may be 0/255 (DAVIS 2016).

    Raises:
      InputError: if the frame is missing, or differs in size from its masks.
    """
    path = next(path for path in task.truth if path.stem == frame)
    truth = read_labels(path)
    masks = [read_labels(predicted[method] / path.name) for method in captions]
    if merged:
        # The first mask shows whether 255 is the object or void.
        truth = foreground(np.stack([read_labels(task.truth[0]), truth]))[1].astype(np.uint8)
        masks = [(labels != 0).astype(np.uint8) for labels in masks]
    else:
        truth = np.where(truth == VOID, 0, truth).astype(np.uint8)
    image = _read_frame(folder, frame, truth.shape)
    tiles = [overlay(image, labels) for labels in (truth, *masks)]
    sheet = strip(
        tiles,
        columns=min(_COLUMNS, len(tiles)),
        height=_HEIGHT,
        captions=["truth", *captions.values()],
    )
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _read_frame(folder: Path | None, frame: str, size: tuple[int, ...]) -> np.ndarray:
    if folder is None:
        return np.full((*size, 3), _DARK, np.uint8)
    paths = [folder / f"{frame}{suffix}" for suffix in _SUFFIXES]
    path = next((path for path in paths if path.is_file()), paths[0])
    pixels = read_image(path)
    if pixels.shape[:2] != tuple(size):
        raise InputError(
            f"frame {path} is {size_text(pixels.shape)}, its mask {size_text(size)}: give frames of"
            " the masks' size (--images)"
        )
    return pixels
