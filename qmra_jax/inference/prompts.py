"""Prompts: the box or mask of each object that enters, and its id."""

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from qmra_jax.boxes import check_box, mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, objects_in

MAX_OBJECTS = VOID - 1  # at a time; also the largest id, as labels are uint8 and 255 is void


class Prompts(NamedTuple):
    """Objects that enter in one frame.

    Attributes:
      ids: of n objects.
      boxes: int32 `[n, 4]`: x, y, width, height in pixels of the frame, none empty.
      masks: bool `[n, h, w]` with these tight boxes, or None if only boxes were given. An object
        given by its box among others given by masks has the filled box. Only networks that
        remember masks (STM) use them.
    """

    ids: tuple[int, ...]
    boxes: np.ndarray
    masks: np.ndarray | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `Propagator.start` and `Propagator.step`."""
        drawn = {"boxes": self.boxes} if self.masks is None else {"masks": self.masks}
        return {**drawn, "ids": self.ids}


def read_prompts(
    frame_size: tuple[int, ...],
    boxes,
    masks: np.ndarray | None,
    ids: Sequence[int] | None,
    ids_in_use: Iterable[int],
) -> Prompts:
    """Validates the arguments of `Propagator.start`, `step` and `add`.

    Args:
      frame_size: (height, width).
      boxes: int `[n, 4]`: x, y, width, height in pixels of the frame; or None.
      masks: uint8 `[h, w]` label map (255 is void), or one object's mask of only 0 and 255; or
        bool `[n, h, w]` or `[h, w]`; or None.
      ids: of the objects; None: the lowest free ones, or a label map's labels.
      ids_in_use: must not be used again.

    Raises:
      InputError: unless exactly one of boxes and masks is given, with 1 to `MAX_OBJECTS` objects,
        each non-empty and inside the frame, with unique ids in 1..`MAX_OBJECTS`.
    """
    if (boxes is None) == (masks is None):
        raise InputError("objects: expected either boxes or masks of them")
    if ids is not None:
        ids = _as_list("ids", ids, "one id per object")
    if masks is not None:
        masks, ids = _object_masks(np.asarray(masks), frame_size, ids)
        boxes = mask_to_box(masks)
    else:
        boxes = _as_list("boxes", boxes, "one x,y,width,height per object")
        if boxes and np.isscalar(boxes[0]):
            raise InputError(f"boxes {boxes}: expected a list of boxes [[x, y, width, height]]")
    used = set(ids_in_use)
    count = len(boxes)
    if not 1 <= count <= MAX_OBJECTS - len(used):
        beside = f" beside the {len(used)} already tracked" if used else ""
        raise InputError(f"{count} objects{beside}: expected 1 to {MAX_OBJECTS} in all")
    if ids is None:
        ids = list(itertools.islice((i for i in range(1, VOID) if i not in used), count))
    if len(ids) != count:
        raise InputError(f"{len(ids)} ids for {count} objects: expected one per object")
    checked_ids: list[int] = []
    for id in ids:
        checked_ids.append(_check_id(id, used))
        used.add(checked_ids[-1])
    if masks is not None and not masks.any(axis=(1, 2)).all():
        id = checked_ids[int(masks.any(axis=(1, 2)).argmin())]
        raise InputError(f"mask of object {id} is empty: expected at least one pixel")
    checked_boxes = np.stack([check_box(box, *frame_size) for box in boxes])
    return Prompts(tuple(checked_ids), checked_boxes, masks)


def _object_masks(
    masks: np.ndarray, frame_size: tuple[int, ...], ids: list | None
) -> tuple[np.ndarray, Sequence | None]:
    """(masks bool `[n, h, w]`, ids), where a label map's labels are the ids if None are given."""
    if masks.shape[-2:] != tuple(frame_size) or masks.ndim not in (2, 3):
        raise InputError(
            f"masks of shape {list(masks.shape)} for a frame of height {frame_size[0]} and width"
            f" {frame_size[1]}: expected [h, w] labels or [n, h, w] masks"
        )
    if masks.dtype != bool and not np.issubdtype(masks.dtype, np.integer):
        raise InputError(
            f"masks of {masks.dtype}: expected bool or integer labels; threshold probabilities"
            " first (masks > 0.5)"
        )
    if masks.ndim == 3:
        return masks != 0, ids
    labels = objects_in(masks)
    if masks.dtype == bool or not labels:  # one object's mask, perhaps of 0 and 255
        return (masks != 0)[None], ids
    ids = list(labels) if ids is None else ids
    return masks == np.reshape(ids, (-1, 1, 1)), ids


def _as_list(name: str, values, expected: str) -> list:
    try:
        return list(values)
    except TypeError:
        raise InputError(f"{name} {values!r}: expected a list, {expected}") from None


def _check_id(id, used: set[int]) -> int:
    try:
        number = operator.index(id)
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_OBJECTS:
        raise InputError(f"object id {id!r}: expected a whole number from 1 to {MAX_OBJECTS}")
    if number in used:
        raise InputError(f"object id {number} is used twice: expected a different id per object")
    return number
