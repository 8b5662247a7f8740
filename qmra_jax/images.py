"""Reads image files as RGB and checks them before any work begins."""

import concurrent.futures
import io
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from qmra_jax.errors import InputError

_TAIL = 64  # bytes; the end marker of a complete file lies within


def read_image(path: Path, *, turned: bool = False) -> np.ndarray:
    """Reads an image file as uint8 `[h, w, 3]` RGB; see `decode_image`.

    Raises:
      InputError: if it cannot be read or is truncated.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"image {path} cannot be read ({error.strerror})") from None
    return decode_image(data, str(path), turned=turned)


def decode_image(data: bytes, name: str, *, turned: bool = False) -> np.ndarray:
    """Decodes a JPEG or PNG as uint8 `[h, w, 3]` RGB.

    Args:
      data: of the file.
      name: what messages call the image.
      turned: apply EXIF's orientation. Frames of datasets are read without, as their masks have no
        EXIF.

    Raises:
      InputError: if it cannot be decoded or is truncated.
    """
    flags = cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    # OpenCV before 4.12 fills in what a truncated JPEG lacks. Where FF D9 is not near the end,
    # Pillow decides: it is slower but strict.
    if image is None or (data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-_TAIL:]):
        try:
            with Image.open(io.BytesIO(data)) as strict:
                shown = ImageOps.exif_transpose(strict) if turned else strict
                return np.asarray(shown.convert("RGB"))
        except UnidentifiedImageError:  # its own text shows a memory address
            raise InputError(f"image {name} is not an image: replace the file") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"image {name} cannot be read ({error}): replace the file") from None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def size_text(shape: tuple[int, ...]) -> str:
    """The size of an image `[h, w, ...]` as width x height: "854x480"."""
    return f"{shape[1]}x{shape[0]}"


def check_headers(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Checks by their headers that images and their masks can be read and agree in size.

    Raises:
      InputError: if any fails; it counts the failures and names the first few.
    """
    pairs = list(pairs)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        faults = sorted(fault for fault in pool.map(_fault, pairs) if fault)
    if faults:
        raise InputError(
            f"{len(faults)} of {len(pairs)} images and masks cannot be used:"
            f" {_first(faults, '; ')}: mend or remove them"
        )


def check_whole(paths: Iterable[Path], advice: str = "mend or remove them") -> None:
    """Checks by their ends that image files are not truncated, without decoding complete ones.

    Args:
      paths: JPEG and PNG files.
      advice: what the error message tells the user to do.

    Raises:
      InputError: if any fails; it counts the failures and names the first few.
    """
    paths = list(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        whole = list(pool.map(_is_whole, paths))
    if bad := sorted(str(path) for path, fine in zip(paths, whole, strict=True) if not fine):
        raise InputError(
            f"{len(bad)} of {len(paths)} frames are cut short or cannot be read:"
            f" {_first(bad, ', ')}: {advice}"
        )


def _first(faults: list[str], separator: str) -> str:
    more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
    return separator.join(faults[:5]) + more


def _is_whole(path: Path) -> bool:
    """Whether it ends as a JPEG or PNG should, or can be decoded nevertheless."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            tail = file.read()
        if (head[:2] == b"\xff\xd8" and b"\xff\xd9" in tail) or (
            head == b"\x89PNG" and b"IEND" in tail
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
