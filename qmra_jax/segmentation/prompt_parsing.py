"""Objects as a user names them: boxes on the command line, a mask in a file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qmra_jax.boxes import box_to_map, check_box, mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.inference.prompts import MOST, Prompts, split_objects
from qmra_jax.masks import read_labels


def parse_box(text: str) -> tuple[tuple[int, int, int, int], int | None]:
    """The box "x,y,width,height", and the frame if it ends in "@frame".

    Raises:
      InputError: if it is anything else.
    """
    number = r"\s*([+-]?\d+)\s*"
    match = re.fullmatch(f"{number},{number},{number},{number}(?:@{number})?", text)
    if not match:
        raise InputError(
            f"box {text!r}: expected four whole numbers of pixels x,y,width,height, such as"
            " 120,80,64,48, and where it enters later its frame, such as 120,80,64,48@30"
        )
    x, y, width, height = (int(part) for part in match.groups()[:4])
    return (x, y, width, height), int(match[5]) if match[5] else None


def read_objects(
    size: tuple[int, int],
    boxes: Sequence[str],
    mask: Path | None = None,
    *,
    frame: int = 0,
) -> Mapping[int, Prompts]:
    """All objects by the frame in which they were drawn.

    The objects of a mask file keep its labels as ids; of their masks QMRA takes the tight boxes.
    Boxes get the lowest free ids, in their order.

    Args:
      size: (height, width) of the video.
      boxes: texts for `parse_box`.
      mask: a label map (255 is void, unless it is a 0/255 mask of one object).
      frame: in which the mask and boxes without a frame were drawn.

    Raises:
      InputError: if there is no object, or one is empty or leaves the frame.
    """
    drawn: dict[int, list[tuple[np.ndarray, int]]] = {}
    shown: dict[int, np.ndarray] = {}  # the masks, by id
    if mask is not None:
        shown = _read_mask(mask, size)
        drawn[frame] = [(mask_to_box(object_mask), id) for id, object_mask in shown.items()]
    free = (id for id in range(1, MOST + 1) if id not in shown)
    for text in boxes:
        box, at = parse_box(text)
        id = next(free, None)
        if id is None:
            raise InputError(f"box {text!r}: expected at most {MOST} objects")
        drawn.setdefault(frame if at is None else at, []).append((check_box(box, *size), id))
    if not drawn:
        raise InputError("no object: give at least one --box x,y,width,height or a --mask FILE")
    objects = {}
    for number, there in sorted(drawn.items()):
        tight, ids = np.stack([box for box, _ in there]), tuple(id for _, id in there)
        masks = None
        if shown and number == frame:
            filled = box_to_map(tight, *size) > 0
            masks = np.stack([shown.get(id, box) for id, box in zip(ids, filled, strict=True)])
        objects[number] = Prompts(ids, tight, masks)
    return objects


def _read_mask(path: Path, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """The objects in a mask file: id -> mask bool `[h, w]`."""
    labels = read_labels(path)
    if labels.shape != size:
        raise InputError(
            f"mask {path} is {labels.shape[1]}x{labels.shape[0]}, the video {size[1]}x{size[0]}"
            " (width x height): expected one size"
        )
    masks = split_objects(labels)
    if not masks:
        raise InputError(f"mask {path} is empty: expected the pixels of at least one object")
    return masks
