"""What a builder says of its files: the records that they make, and what is wrong with them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

# Fast to read, which training does often: Pillow takes half the time of OpenCV's default.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)


class ByDesign(Exception):
    """Raised by an item's `make`: the dataset means to have no record here; the message says why.

    Such an item is counted and told, in the plural ("images without a salient object"), and is no
    fault.
    """


class Record(NamedTuple):
    """What an item's `make` returns.

    Attributes:
      features: as the builder's features take it; images as encoded bytes, not arrays.
      counts: for the summary: {"objects": 3, "frames": 27, "masks cut at 128": 27}.
    """

    features: dict[str, Any]
    counts: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Item:
    """One record to be made.

    Attributes:
      key: unique in its split.
      make: reads, checks and encodes the record; raises an `InputError` that tells what is wrong,
        or `ByDesign`. It runs in a thread beside others (with Beam, pickled, elsewhere).
      sources: the files it is made from. Their sizes and times tell a build that goes on whether
        what it wrote earlier still holds, and their sizes how many records make a shard.
    """

    key: str
    make: Callable[[], Record]
    sources: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a split is made of, found from names alone.

    Attributes:
      items: its records, in the order they are written.
      faults: what is wrong already, a line each: a mask without image, an absent frame.
      skipped: what the dataset's own design leaves out, reason to count; it is told, not a fault.
    """

    items: tuple[Item, ...]
    faults: tuple[str, ...] = ()
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


def index_png(labels: np.ndarray) -> bytes:
    """A label map as a record holds it: a grey PNG, whose pixels every decoder reads unchanged.

    Args:
      labels: uint8 `[h, w]`: 0 background, 1..n the objects, 255 void.
    """
    return cv2.imencode(".png", labels, _PNG)[1].tobytes()
