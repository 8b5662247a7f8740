"""The targets that a still image's mask offers."""

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, label_counts, objects_in

MAX_ID = 127  # of an instance; higher values mean a 0/255 mask with grey edges
MIN_TARGET = 1 / 2000  # of the image: smaller instances, and frames that show less, are not drawn


def is_binary(labels: np.ndarray, name: str) -> bool:
    """Whether a mask is 0/255, possibly with grey edges, and not a map of instance ids.

    Instance ids are 1..127, with 255 as void, and cover more than void does; 0/1 counts as ids.

    Args:
      labels: uint8 `[h, w]`, as `read_labels` returns them.
      name: of the mask, for messages.

    Raises:
      InputError: if the mask is ambiguous: it has values of 128 to 254 while some value is more
        frequent than 255, as in blended ids; or it has ids and even more of 255.
    """
    counts = label_counts(labels)
    low, high, top = counts[1 : MAX_ID + 1].sum(), counts[MAX_ID + 1 : VOID].sum(), counts[VOID]
    if high and top < counts[1:VOID].max():
        raise InputError(
            f"mask {name} holds values of 128 to 254, and 255 is not its most frequent: expected"
            f" ids up to {MAX_ID} with 255 as void, or 0 and 255; save ids again without resizing,"
            " or threshold a soft mask at 128"
        )
    if not high and low and top > low:
        raise InputError(
            f"mask {name} holds ids but more of 255: expected 255 as void, or 0 and 255 alone;"
            " write void as 0, or the one object as 1"
        )
    return bool(high or top > low)


def instance_masks(labels: np.ndarray, name: str) -> dict[int, np.ndarray]:
    """The targets of a mask: one if it is binary, else the instances of at least `MIN_TARGET`.

    Args:
      labels: uint8 `[h, w]`, as `read_labels` returns them.
      name: of the mask, for messages.

    Returns:
      Instance to uint8 `[h, w]` in {0, 1}. A binary mask, cut at 128, is instance 1; where all
      instances are small, all are targets; an empty mask has none.

    Raises:
      InputError: as `is_binary`.
    """
    if is_binary(labels, name):
        return {1: (labels >= 128).astype(np.uint8)}
    ids, counts = objects_in(labels), label_counts(labels)
    big = [i for i in ids if counts[i] >= MIN_TARGET * labels.size]
    return {i: (labels == i).astype(np.uint8) for i in big or ids}
