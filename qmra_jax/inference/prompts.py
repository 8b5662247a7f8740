"""What a user gives of an object: its box, or its mask, and the id it is to go by."""

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from qmra_jax.boxes import check_box, mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.masks import VOID

MOST = VOID - 1  # objects at a time, and the largest id: labels are uint8, and 255 is void


class Prompts(NamedTuple):
    """Objects that enter in a frame.

    Attributes:
      ids: of n objects.
      boxes: int32 `[n, 4]`: x, y, width, height in pixels of the frame, none empty.
      masks: bool `[n, h, w]`, of which these are the tight boxes; None if boxes were given. Where
        both were, that of a box is the filled box. They are for networks alone that `remember`
        masks.
    """

    ids: tuple[int, ...]
    boxes: np.ndarray
    masks: np.ndarray | None = None

    def arguments(self) -> dict[str, Any]:
        """What `Propagator.start` and `step` are told of them."""
        drawn = {"boxes": self.boxes} if self.masks is None else {"masks": self.masks}
        return {**drawn, "ids": self.ids}


def split_objects(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The objects that a label map shows.

    Args:
      labels: `[h, w]`, whole numbers: 0 is background and 255 void, unless there is nothing but 0
        and 255: that is the mask of one object, whose id is 1.

    Returns:
      id -> mask bool `[h, w]`, by ascending id.
    """
    if _is_of_one_object(labels):
        return {1: labels != 0}
    return {i: labels == i for i in np.unique(labels).tolist() if i not in (0, VOID)}


def _is_of_one_object(labels: np.ndarray) -> bool:
    return VOID in labels and bool(np.isin(labels, (0, VOID)).all())


def read_prompts(
    frame_size: tuple[int, ...],
    boxes,
    masks: np.ndarray | None,
    ids: Sequence[int] | None,
    taken: Iterable[int],
) -> Prompts:
    """The objects that enter in a frame, known to be good.

    Args:
      frame_size: (height, width).
      boxes: int `[n, 4]`: x, y, width, height in pixels of the frame; or None.
      masks: uint8 `[h, w]` label map (255 is void), or one object's mask of 0 and 255 alone, as
        `prompt_parsing.read_objects` takes it; or bool `[n, h, w]` or `[h, w]`; or None.
      ids: of the objects; None: the lowest that are free, or a label map's labels.
      taken: ids in use.

    Raises:
      InputError: if both or neither of boxes and masks are given, there is no object or more than
        `MOST`, one is empty or leaves the frame, or an id is used twice or is none.
    """
    if (boxes is None) == (masks is None):
        raise InputError("an object is given by its box or its mask: expected boxes or masks")
    if masks is not None:
        masks, ids = _by_object(np.asarray(masks), frame_size, ids)
        boxes = mask_to_box(masks)
    else:
        boxes = _listed(boxes)
    taken = set(taken)
    if len(boxes) == 0:
        raise InputError("no box: expected at least one object")
    if len(taken) + len(boxes) > MOST:
        there = f" beside the {len(taken)} that there are" if taken else ""
        raise InputError(f"{len(boxes)} objects{there}: expected at most {MOST} at a time")
    if ids is None:
        ids = list(itertools.islice((i for i in itertools.count(1) if i not in taken), len(boxes)))
    ids = _check_ids(ids, len(boxes), taken)
    checked = []
    for i, box in zip(ids, boxes, strict=True):
        if masks is not None and not np.any(box):
            raise InputError(f"mask of object {i} is empty: expected some pixels of it")
        checked.append(check_box(box, *frame_size))
    return Prompts(ids, np.stack(checked), masks)


def _by_object(
    masks: np.ndarray, frame_size: tuple[int, ...], ids: Sequence[int] | None
) -> tuple[np.ndarray, Sequence[int] | None]:
    """The masks bool `[n, h, w]`, and the objects' ids where these or the labels tell."""
    if masks.shape[-2:] != tuple(frame_size) or masks.ndim not in (2, 3):
        raise InputError(
            f"masks of shape {list(masks.shape)} for a frame {frame_size[1]} wide and"
            f" {frame_size[0]} high: expected [h, w] labels or [n, h, w]"
        )
    if masks.dtype != bool and not np.issubdtype(masks.dtype, np.integer):
        raise InputError(
            f"masks of {masks.dtype}: expected bool, or whole numbers that are labels; of"
            " probabilities give masks > 0.5"
        )
    if masks.ndim == 3:
        return masks != 0, ids
    if masks.dtype == bool or _is_of_one_object(masks):
        return (masks != 0)[None], ids
    shown = split_objects(masks)
    ids = list(shown) if ids is None else ids
    if unknown := [i for i in ids if i not in shown]:
        raise InputError(f"mask of object {unknown[0]} is empty: expected some pixels of it")
    return masks == np.reshape(ids, (-1, 1, 1)), ids


def _listed(boxes) -> Sequence:
    """The boxes, once they are known to be several, not the four numbers of one."""
    try:
        boxes = list(boxes)
    except TypeError:
        raise InputError(f"boxes {boxes!r}: expected a list of x,y,width,height") from None
    if boxes and np.isscalar(boxes[0]):
        raise InputError(
            f"boxes {boxes}: expected a list of boxes, also of one object: [[x, y, width, height]]"
        )
    return boxes


def _check_ids(ids: Sequence[int], count: int, taken: set[int]) -> tuple[int, ...]:
    """The ids of `count` objects as ints, none of which is taken."""
    if not hasattr(ids, "__len__"):
        raise InputError(f"ids {ids!r}: expected a list, an id for each object")
    if len(ids) != count:
        raise InputError(f"{len(ids)} ids for {count} objects: expected one each")
    checked: list[int] = []
    for given in ids:
        try:
            i = operator.index(given)
        except TypeError:
            i = 0
        if not 1 <= i <= MOST:
            raise InputError(f"object id {given!r}: expected a whole number, 1 to {MOST}")
        if i in taken or i in checked:
            raise InputError(f"object id {i} is used twice: expected another for each object")
        checked.append(i)
    return tuple(checked)
