"""What a builder finds in its files: the records to make, and the faults known from names alone."""

import dataclasses
import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from data_pipeline.datasets.davis import shortened, visible_files
from qmra_jax.errors import InputError
from qmra_jax.images import decode_image

IMAGE_KINDS = frozenset(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "gif", "heic", "jfif", "jp2", "jpeg", "jpg"),
        *("pgm", "png", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
# Fast to decode, which training does often: Pillow takes half the time of OpenCV's default.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)


class SkippedByDesign(Exception):
    """Raised by an item's `make` where the dataset intends no record; counted, and not a fault.

    The message is the reason, in the plural: "images without a salient object".
    """


class Record(NamedTuple):
    """What an item's `make` returns.

    Attributes:
      features: values of the builder's features; images as encoded bytes, not arrays.
      counts: for the summary: {"objects": 3, "frames": 27, "masks cut at 128": 27}.
    """

    features: dict[str, Any]
    counts: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Item:
    """One record to be made.

    Attributes:
      key: unique in its split.
      make: reads, checks and encodes the record; raises `InputError` if a file is bad, or
        `SkippedByDesign`. It runs in a thread (with Beam, pickled, in another process).
      sources: the files it is made from. Their sizes and times tell a resumed build whether an
        earlier shard is still valid, and their sizes how many records make a shard.
    """

    key: str
    make: Callable[[], Record]
    sources: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """The content of a split, found from names alone.

    Attributes:
      items: its records, in the order they are written.
      faults: one line each: a mask without an image, a missing frame.
      skipped: what the dataset leaves out by design: reason to count.
    """

    items: tuple[Item, ...]
    faults: tuple[str, ...] = ()
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


def index_png(labels: np.ndarray) -> bytes:
    """A label map as a grey PNG, whose pixels every decoder reads unchanged.

    Args:
      labels: uint8 `[h, w]`: 0 background, 1..n the objects, 255 void.
    """
    return cv2.imencode(".png", labels, _PNG)[1].tobytes()


def read_encoded(path: Path, *, decode: bool = False) -> tuple[bytes, tuple[int, int]]:
    """An image file's bytes and its (height, width), after a check that it is complete.

    Unless `decode`, a JPEG is decoded only if its end is unusual, which takes 0.04 ms instead of 2
    (576x324): a file cut short is found, damage in its middle is not.

    Raises:
      InputError: if it cannot be read, is neither JPEG nor PNG, or is cut short.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as header:
            kind, size = header.format, (header.height, header.width)
    except (OSError, SyntaxError, ValueError) as error:  # the last two for broken PNGs
        reason = getattr(error, "strerror", None) or "no image, or cut short"
        raise InputError(f"image {path} cannot be read ({reason}): replace the file") from None
    if kind not in ("JPEG", "MPO", "PNG"):
        raise InputError(f"image {path} is a {kind} file: expected JPEG or PNG")
    if decode or kind == "PNG" or b"\xff\xd9" not in data[-64:]:
        decode_image(data, str(path))
    return data, size


def unread_files(folder: Path, suffixes: Collection[str], kind: str) -> list[str]:
    """Reports the images of a folder that a builder would silently ignore, in one line.

    Args:
      folder: to search; hidden files do not count.
      suffixes: of the files that are read, in lower case.
      kind: of the files expected there, in the plural: "masks".
    """
    names = [path.name for path in visible_files(folder, IMAGE_KINDS.difference(suffixes))]
    if not names:
        return []
    return [
        f"{folder}: images of kinds that are not read: {len(names):,} ({shortened(names)});"
        f" expected {kind} as {' or '.join(sorted(suffixes))}: convert or remove them"
    ]
