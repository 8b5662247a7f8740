"""Image files: read as RGB, and looked over before any work begins."""

import concurrent.futures
import io
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from qmra_jax.errors import InputError

_END = 64  # bytes of a file, within which a whole one says so


def read_image(path: Path, *, turned: bool = False) -> np.ndarray:
    """An image file as uint8 `[h, w, 3]`, RGB; see `decode_image`.

    Raises:
      InputError: if it cannot be read, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"image {path} cannot be read ({error.strerror})") from None
    return decode_image(data, str(path), turned=turned)


def decode_image(data: bytes, name: str, *, turned: bool = False) -> np.ndarray:
    """An encoded image as uint8 `[h, w, 3]`, RGB.

    Args:
      data: of a JPEG or PNG.
      name: of the image, for messages: its path, or its record's.
      turned: as it is displayed, turned by EXIF's orientation; else as it is stored, as a dataset's
        frames must be, whose masks have no EXIF.

    Raises:
      InputError: if it cannot be decoded, or is cut short.
    """
    flags = cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    # OpenCV 4.10 fills what a truncated JPEG lacks (4.12 no longer does). A whole one ends in FF D9
    # as a rule; where that is not near the end, Pillow, slower but strict, looks closer.
    if image is None or (data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-_END:]):
        try:
            with Image.open(io.BytesIO(data)) as strict:
                shown = ImageOps.exif_transpose(strict) if turned else strict
                image = np.asarray(shown.convert("RGB"))
        except UnidentifiedImageError:  # its own text names no file but a memory address
            raise InputError(f"image {name} is no image: replace the file") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"image {name} cannot be read ({error}): replace the file") from None
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def size_text(shape: tuple[int, ...]) -> str:
    """The size of an image `[h, w, ...]` for messages, "854x480": width x height."""
    return f"{shape[1]}x{shape[0]}"


def check_headers(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Reads the headers of images and their masks, which is quick, before any work begins.

    Raises:
      InputError: if an image and its mask differ in size or a file is no image; it names the first
        few and says how many there are.
    """
    pairs = list(pairs)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        faults = sorted(fault for fault in pool.map(_fault, pairs) if fault)
    if faults:
        raise InputError(
            f"{len(faults)} of {len(pairs)} images and masks cannot be used:"
            f" {_first(faults, '; ')}: mend or remove them"
        )


def check_whole(paths: Iterable[Path], what: str = "mend or remove them") -> None:
    """Looks at the ends of image files, so that one cut short is found before any work begins.

    A file with a sound end is not decoded; damage in its middle shows when it is.

    Args:
      paths: of JPEGs and PNGs.
      what: to do about bad ones, for the message.

    Raises:
      InputError: if any is cut short or cannot be read; it names the first few and says how many
        there are.
    """
    paths = list(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        whole = list(pool.map(_is_whole, paths))
    if bad := sorted(str(path) for path, fine in zip(paths, whole, strict=True) if not fine):
        raise InputError(
            f"{len(bad)} of {len(paths)} frames are cut short or cannot be read:"
            f" {_first(bad, ', ')}: {what}"
        )


def _first(faults: list[str], between: str) -> str:
    more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
    return between.join(faults[:5]) + more


def _is_whole(path: Path) -> bool:
    """Whether it ends as a JPEG or PNG does, or else can be decoded all the same."""
    try:
        with path.open("rb") as file:
            begin = file.read(4)
            file.seek(max(file.seek(0, os.SEEK_END) - _END, 0))
            end = file.read()
        if (begin[:2] == b"\xff\xd8" and b"\xff\xd9" in end) or (
            begin == b"\x89PNG" and b"IEND" in end
        ):
            return True
        read_image(path)
    except (OSError, InputError):
        return False
    return True


def _fault(pair: tuple[Path, Path]) -> str:
    sizes = []
    for path in pair:
        try:
            with Image.open(path) as header:
                sizes.append("x".join(map(str, header.size)))
        except OSError:
            return f"{path} cannot be read as an image"
    image, mask = sizes
    return f"{pair[0]} is {image} but {pair[1]} is {mask}" if image != mask else ""
