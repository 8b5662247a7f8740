"""Parses prompts: boxes from the command line, a mask from a file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qmra_jax.boxes import box_to_map, check_box, mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.inference.prompts import MAX_OBJECTS, Prompts
from qmra_jax.masks import read_labels, split_objects


def parse_box(text: str) -> tuple[tuple[int, int, int, int], int | None]:
    """Parses "x,y,width,height" or "x,y,width,height@frame" into (box, frame or None).

    Raises:
      InputError: if the text has another form.
    """
    number = r"\s*([+-]?\d+)\s*"
    match = re.fullmatch(f"{number},{number},{number},{number}(?:@{number})?", text)
    if not match:
        raise InputError(
            f"box {text!r}: expected x,y,width,height in whole pixels, such as 120,80,64,48, with"
            " @frame if the object enters later, such as 120,80,64,48@30"
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
    """The prompts of each frame in which objects are drawn, by ascending frame.

    Objects of the mask file keep their labels as ids; boxes get the lowest free ids, in order.

    Args:
      size: (height, width) of the video.
      boxes: texts for `parse_box`.
      mask: a label map (255 is void, except in a 0/255 mask of one object).
      frame: in which the mask, and boxes without a frame, are drawn.

    Raises:
      InputError: if there are no objects, or one is empty or leaves the frame.
    """
    masks = {} if mask is None else _read_masks(mask, size)  # by id
    drawn: dict[int, dict[int, np.ndarray]] = {}  # frame -> id -> box
    if masks:
        drawn[frame] = {id: mask_to_box(object_mask) for id, object_mask in masks.items()}
    free_ids = (id for id in range(1, MAX_OBJECTS + 1) if id not in masks)
    for text in boxes:
        box, box_frame = parse_box(text)
        id = next(free_ids, None)
        if id is None:
            raise InputError(f"box {text!r}: expected at most {MAX_OBJECTS} objects")
        boxes_by_id = drawn.setdefault(frame if box_frame is None else box_frame, {})
        boxes_by_id[id] = check_box(box, *size)
    if not drawn:
        raise InputError("no object: give at least one --box x,y,width,height or a --mask FILE")
    prompts = {}
    for number, boxes_by_id in sorted(drawn.items()):
        object_boxes, object_masks = np.stack(list(boxes_by_id.values())), None
        if masks and number == frame:
            filled = box_to_map(object_boxes, *size) > 0
            pairs = zip(boxes_by_id, filled, strict=True)
            object_masks = np.stack([masks.get(id, box_map) for id, box_map in pairs])
        prompts[number] = Prompts(tuple(boxes_by_id), object_boxes, object_masks)
    return prompts


def _read_masks(path: Path, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """The objects in a mask file: id -> mask bool `[h, w]`."""
    labels = read_labels(path)
    if labels.shape != size:
        raise InputError(
            f"mask {path} is {size_text(labels.shape)}, the video {size_text(size)}: expected one"
            " size"
        )
    masks = split_objects(labels)
    if not masks:
        raise InputError(f"mask {path} is empty: expected the pixels of at least one object")
    return masks
