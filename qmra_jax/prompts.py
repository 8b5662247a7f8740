"""What a user gives of an object: its box, or its mask, and the id it is to go by."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from qmra_jax.boxes import check_box, mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.masks import VOID


def read_prompts(
    frame_size: tuple[int, ...],
    boxes,
    masks: np.ndarray | None,
    ids: Sequence[int] | None,
    taken: Iterable[int],
) -> tuple[tuple[int, ...], np.ndarray]:
    """The objects that enter in a frame, known to be good.

    Args:
      frame_size: (height, width).
      boxes: int `[n, 4]`: x, y, width, height in pixels of the frame; or None.
      masks: uint8 `[h, w]` label map (255 is void), or bool `[n, h, w]`; or None.
      ids: of the objects; None: the lowest that are free, or a label map's labels.
      taken: ids in use.

    Returns:
      the ids, and their boxes int32 `[n, 4]`: those given, or the masks' tight ones.

    Raises:
      InputError: if both or neither of boxes and masks are given, there is no object, one is empty
        or leaves the frame, or an id is used twice or is none.
    """
    if (boxes is None) == (masks is None):
        raise InputError("an object is given by its box or its mask: expected boxes or masks")
    if masks is not None:
        masks = np.asarray(masks)
        if masks.shape[-2:] != tuple(frame_size) or masks.ndim not in (2, 3):
            raise InputError(
                f"masks of shape {list(masks.shape)} for a frame {frame_size[1]} wide and"
                f" {frame_size[0]} high: expected [h, w] labels or [n, h, w]"
            )
        if masks.ndim == 2:
            labels = np.unique(masks)
            labels = labels[(labels != 0) & (labels != VOID)]
            ids = labels.tolist() if ids is None else ids
            masks = masks == np.asarray(ids).reshape(-1, 1, 1)
        boxes = mask_to_box(masks != 0)
    if len(boxes) == 0:
        raise InputError("no box: expected at least one object")
    taken = set(taken)
    if ids is None:
        ids = list(itertools.islice((i for i in itertools.count(1) if i not in taken), len(boxes)))
    if len(ids) != len(boxes):
        raise InputError(f"{len(ids)} ids for {len(boxes)} objects: expected one each")
    for i in ids:
        if i in taken:
            raise InputError(f"object id {i} is used twice: expected another for each object")
        if not 1 <= i < VOID:
            raise InputError(f"object id {i}: expected 1 to {VOID - 1}")
        taken.add(i)
    checked = []
    for i, box in zip(ids, boxes, strict=True):
        if masks is not None and not np.any(box):
            raise InputError(f"mask of object {i} is empty: expected some pixels of it")
        checked.append(check_box(box, *frame_size))
    return tuple(int(i) for i in ids), np.stack(checked)
