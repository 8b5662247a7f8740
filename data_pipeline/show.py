"""Draws a sheet of training triplets, as the network will see them.

    python -m data_pipeline.show --config=configs/smoke.py --output=triplets.png
    python -m data_pipeline.show --config=configs/small.py --output=late.png --step=1000 --count=12
    python -m data_pipeline.show --config=configs/small.py --output=mild.png --config.data.tps=0.02

Each row is a triplet below its name: two memory frames and the query, with masks and boxes. They
are the very examples that training uses from that step on.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from ml_collections import config_flags
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.triplets.examples import open_examples
from data_pipeline.triplets.triplets import Triplet
from qmra_jax.drawing import overlay, strip
from qmra_jax.errors import InputError, run_app
from qmra_jax.files import written_whole

_PAPER, _INK = (255, 255, 255), (60, 60, 67)
_TEXT = 14  # pixels


def sheet(names: Sequence[str], triplets: Sequence[Triplet], *, cell: int = 240) -> np.ndarray:
    """Triplets in rows, each below its name: memory, memory, query, with mask and box.

    Args:
      names: of the triplets; the beginning of a name that is too long is cut off.
      triplets: at least one.
      cell: side of a frame on the sheet, in pixels.

    Returns:
      uint8 `[h, w, 3]`, RGB.
    """
    parts = []
    for name, triplet in zip(names, triplets, strict=True):
        row = strip([_frame(*frame, cell) for frame in zip(*triplet, strict=True)], height=cell)
        parts += [_line(name, row.shape[1]), row]
    return np.concatenate(parts)


def _frame(image: np.ndarray, mask: np.ndarray, box: np.ndarray, cell: int) -> np.ndarray:
    """A frame, resized before the outlines are drawn, so that these stay thin."""
    scale = cell / image.shape[0]
    image = cv2.resize(image, (cell, cell), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask, (cell, cell), interpolation=cv2.INTER_NEAREST)
    start, stop = np.round(box[:2] * scale), np.round((box[:2] + box[2:]) * scale)
    box = np.concatenate([start, stop - start]).astype(np.int32)
    return overlay(image, mask, box[None], alpha=0.35)


def _line(text: str, width: int) -> np.ndarray:
    """A line of text: uint8 `[h, width, 3]`."""
    image = Image.new("RGB", (width, 2 * _TEXT), _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_TEXT)
    while len(text) > 1 and draw.textlength(text, font) > width - 8:
        text = "…" + text[2:]
    draw.text((4, 1.2 * _TEXT), text, _INK, font, anchor="lm")
    return np.asarray(image)


def main(_) -> None:
    """The command; see the module."""
    args = flags.FLAGS
    config, output = args.config, Path(args.output or "")
    if output.suffix.lower() != ".png" or not output.parent.is_dir() or output.is_dir():
        raise InputError(f"--output={output}: expected a .png file in an existing folder")
    examples = open_examples(config.data, seed=config.seed, global_batch=config.batch_size)
    first = args.step * config.batch_size
    names, triplets = zip(*map(examples, range(first, first + args.count)), strict=True)
    with written_whole(output) as part:
        Image.fromarray(sheet(names, triplets)).save(part, format="PNG")
    print(*names, f"wrote {output}", sep="\n")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The training config.")
    flags.DEFINE_string("output", None, "The .png to write; an existing one is replaced.")
    flags.DEFINE_integer("count", 8, "Number of triplets.", lower_bound=1)
    flags.DEFINE_integer("step", 0, "The training step to start at.", lower_bound=0)
    flags.mark_flags_as_required(["config", "output"])
    run_app(main)
