"""Reads image files as RGB and checks them before any work begins."""

import concurrent.futures
import io
import os
from collections.abc import Callable, Iterable
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
    _refuse_faults(pairs, _header_fault, "images and masks cannot be used", "mend or remove them")


def check_whole(paths: Iterable[Path], advice: str = "mend or remove them") -> None:
    """Checks by their ends that image files are not truncated, without decoding complete ones.

    Args:
      paths: JPEG and PNG files.
      advice: what the error message tells the user to do.

    Raises:
      InputError: if any fails; it counts the failures and names the first few.
    """
    _refuse_faults(paths, _truncated, "frames are cut short or cannot be read", advice)


def _refuse_faults(items: Iterable, find_fault: Callable, problem: str, advice: str) -> None:
    items = list(items)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        faults = sorted(filter(None, pool.map(find_fault, items)))
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InputError(
            f"{len(faults)} of {len(items)} {problem}: {'; '.join(faults[:5])}{more}: {advice}"
        )


def _truncated(path: Path) -> str:
    """The path, if the file does not end as a JPEG or PNG does and cannot be decoded."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            tail = file.read()
        ends = (b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND")
        if not any(head.startswith(start) and end in tail for start, end in ends):
            read_image(path)
    except (OSError, InputError):
        return str(path)
    return ""


def _header_fault(pair: tuple[Path, Path]) -> str:
    sizes = []
    for path in pair:
        try:
            with Image.open(path) as header:
                sizes.append("x".join(map(str, header.size)))
        except OSError:
            return f"{path} cannot be read as an image"
    image, mask = sizes
    return f"{pair[0]} is {image} but {pair[1]} is {mask}" if image != mask else ""
