"""The targets to choose from in a mask of a dataset."""

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, label_counts, objects_in

MAX_ID = 127  # of an instance; above, a mask is a blended 0/255 one
MIN_TARGET = 1 / 2000  # of the image: smaller instances are not drawn, nor frames that show less


def is_binary(labels: np.ndarray, name: str) -> bool:
    """Whether a still image's mask is binary: 0/1 counts as ids, of which 1 is the only one.

    Binary is 0/255, or grey in between (blended edges). Instance ids are 1..127, with 255 as void;
    they cover more than void does.

    Args:
      labels: uint8 `[h, w]`, as `read_labels` gives them.
      name: of the mask, for messages.

    Raises:
      InputError: if it could be either: there are values of 128 to 254 while some value is more
        frequent than 255, as in blended ids; or ids stand beside more of 255 than void would be.
    """
    counts = label_counts(labels)
    low, high, top = counts[1 : MAX_ID + 1].sum(), counts[MAX_ID + 1 : VOID].sum(), counts[VOID]
    if high and top < counts[1:VOID].max():
        raise InputError(
            f"mask {name} holds values of 128 to 254, and 255 is not its most frequent: expected"
            f" ids up to {MAX_ID} with 255 as void, or 0 and 255; save ids again without resizing,"
            " or cut a soft mask at 128"
        )
    if not high and low and top > low:
        raise InputError(
            f"mask {name} holds ids but more of 255: expected 255 as void, or 0 and 255 alone;"
            " write void as 0, or the one object as 1"
        )
    return bool(high or top > low)


def instance_masks(labels: np.ndarray, name: str) -> dict[int, np.ndarray]:
    """The targets of a mask: one where it is binary, else the instances big enough to follow.

    Args:
      labels: uint8 `[h, w]`, as `read_labels` gives them.
      name: of the mask, for messages.

    Returns:
      Instance to uint8 `[h, w]` in {0, 1}; a binary mask, cut at 128, is instance 1. Empty if there
      is none.

    Raises:
      InputError: as `is_binary`.
    """
    if is_binary(labels, name):
        return {1: (labels >= 128).astype(np.uint8)}
    ids, counts = objects_in(labels), label_counts(labels)
    big = [i for i in ids if counts[i] >= MIN_TARGET * labels.size]
    return {i: (labels == i).astype(np.uint8) for i in big or ids}
