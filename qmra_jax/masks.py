"""Label maps on disk: DAVIS's palette PNGs, grey index PNGs and 0/255 masks.

A label map is uint8 `[h, w]`: 0 background, 1..n the objects, 255 void. A binary mask (DAVIS 2016)
stores its one object as 255 instead; `foreground` tells the two apart.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole

VOID = 255


def _davis_palette() -> np.ndarray:
    """PASCAL VOC's colour map, which DAVIS uses."""
    labels = np.arange(256, dtype=np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    # Label bits go to red, green and blue in turn; the lowest becomes the highest.
    for bit in range(8):
        palette[:, bit % 3] |= ((labels >> bit) & 1) << (7 - bit // 3)
    return palette


PALETTE: np.ndarray = _davis_palette()
"""DAVIS's palette: uint8 `[256, 3]`, the RGB colour of each label."""


def read_labels(path: Path) -> np.ndarray:
    """Reads a mask file's labels as stored: palette indices or grey values, unscaled.

    A 1-bit mask gives 0 and 1, a 0/255 mask 0 and 255. A colour image whose channels are equal
    everywhere is read as grey.

    Returns:
      uint8 `[h, w]`.

    Raises:
      InputError: if the file is missing, truncated or not an image, or its pixels are colours or
        wider than 8 bits, so that labels are unknown.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"mask {path}: no such file") from None
    except OSError as error:
        raise InputError(f"mask {path}: cannot be read ({error.strerror})") from None
    return decode_labels(data, str(path))


def decode_labels(data: bytes, name: str) -> np.ndarray:
    """Decodes a mask's labels, as `read_labels`; messages call it `name`."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, pixels = image.mode, np.asarray(image)
    except UnidentifiedImageError:  # its own text shows a memory address
        raise InputError(f"mask {name} is not an image: expected a PNG of labels") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"mask {name}: cannot be read as an image ({error}): expected a PNG of labels"
        ) from None
    if mode in ("P", "L", "1"):
        return pixels.astype(np.uint8)
    if mode in ("RGB", "RGBA", "LA"):
        channels, alpha = (pixels, None) if mode == "RGB" else (pixels[..., :-1], pixels[..., -1])
        if (channels == channels[..., :1]).all() and (alpha is None or (alpha == 255).all()):
            return np.ascontiguousarray(channels[..., 0])
    raise InputError(
        f"mask {name}: image mode {mode}, expected a palette or 8-bit grey PNG of labels (0"
        " background, 1..n the objects): save the label map itself, not its colours"
    )


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Writes labels as a PNG with DAVIS's palette, atomically (see `written_whole`).

    Raises:
      ValueError: if the labels are not uint8 `[h, w]`: a cast would hide a wrong label.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}: expected uint8 [h, w]"
        )
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(PALETTE.tobytes())
    with written_whole(path) as part:
        image.save(part, format="PNG")


def foreground(labels: np.ndarray) -> np.ndarray:
    """Merges all objects into one, as DAVIS 2016 scores them.

    255 has two meanings: in a 0/255 mask it is the object, in a map of objects 1..n it is void,
    which counts as background. Give all masks of a sequence at once: a frame that its objects have
    left may hold void alone.

    Args:
      labels: uint8 `[..., h, w]`, of one mask or of all masks of a sequence.

    Returns:
      bool `[..., h, w]`.

    Raises:
      InputError: if 255 occurs beside labels from 128 on: a 0/255 mask blended by resizing or
        JPEG.
    """
    objects = (labels != 0) & (labels != VOID)
    if not objects.any():
        return labels == VOID
    if labels.max() == VOID and labels[objects].max() >= 128:
        raise InputError(
            f"a mask holds 255 and also {labels[objects].max()}: expected 0 and 255, or labels"
            " 0..n with 255 as void; a 0/255 mask blended by resizing needs a threshold first"
        )
    return objects


def objects_in(labels: np.ndarray) -> tuple[int, ...]:
    """The objects of label maps, int `[..., h, w]`: sorted labels without 0 and 255."""
    if labels.dtype == np.uint8:  # faster than np.unique
        present = np.flatnonzero(label_counts(labels.reshape(-1, labels.shape[-1])))
    else:
        present = np.unique(labels)
    return tuple(label for label in present.tolist() if label not in (0, VOID))


def split_objects(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The mask of each object in a label map.

    Args:
      labels: whole numbers `[h, w]`; a map of nothing but 0 and 255 is the mask of object 1.

    Returns:
      id -> bool `[h, w]`, by ascending id.
    """
    ids = objects_in(labels)
    if not ids and (labels == VOID).any():
        return {1: labels != 0}
    return {id: labels == id for id in ids}


def label_counts(labels: np.ndarray) -> np.ndarray:
    """Pixels of each label in uint8 `[h, w]`: int64 `[256]`, rounded above 2**24 pixels."""
    # np.bincount converts every pixel to int64 first and takes three times as long.
    return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel().astype(np.int64)
