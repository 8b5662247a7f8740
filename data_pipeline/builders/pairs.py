"""Records of still images: an image and its mask are checked, and the mask becomes an index PNG."""

import functools
import io
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipeline.builders.items import (
    Item,
    Listing,
    Record,
    SkippedByDesign,
    index_png,
    read_encoded,
    unread_files,
)
from data_pipeline.datasets.davis import shortened
from data_pipeline.datasets.folders import IMAGE_SUFFIXES, MASK_SUFFIXES, files_by_stem
from data_pipeline.datasets.targets import is_binary
from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.masks import VOID, decode_labels, objects_in

Labels = Literal["binary", "ids or binary"]
"""Meaning of a mask's values: one object as 0/1, 0/255 or grey; or ids, unless it looks binary."""


def find_root(manual_dir: Path, names: Collection[str], expected: Collection[str]) -> Path:
    """The folder that a dataset was unpacked to: `manual_dir` or one of `names` in it.

    Raises:
      InputError: if none of them contains any of the `expected` folders.
    """
    for root in (manual_dir, *(manual_dir / name for name in names)):
        if any((root / folder).is_dir() for folder in expected):
            return root
    found = shortened(path.name for path in manual_dir.iterdir()) or "nothing"
    raise InputError(
        f"manual_dir {manual_dir}: expected {' or '.join(expected)} in it, or in"
        f" {' or '.join(names)} in it; found {found}"
    )


def pair_listing(
    images: Path,
    masks: Path,
    *,
    image_suffixes: Collection[str] = IMAGE_SUFFIXES,
    labels: Labels = "binary",
    empty: str = "",
) -> Listing:
    """The images and masks of two folders (or of one), paired by file name.

    Files without a partner are faults, and so are images of other kinds.

    Args:
      images: folder of images.
      masks: folder of PNG masks.
      image_suffixes: of the image files, in lower case.
      labels: meaning of the masks' values.
      empty: why some images have an empty mask or none by the dataset's design, in the plural.

    Raises:
      InputError: if a folder is missing or contains no such files.
    """
    image_of, second_images = files_by_stem(images, image_suffixes, "images")
    mask_of, second_masks = files_by_stem(masks, MASK_SUFFIXES, "masks")
    faults = [
        f"{path}: the same name as {first[path.stem].name}, with another suffix"
        for first, second in ((image_of, second_images), (mask_of, second_masks))
        for path in second
    ]
    unmasked = sorted(image_of.keys() - mask_of.keys())
    if not empty:
        faults += [f"image {image_of[stem]} has no mask in {masks}" for stem in unmasked]
    extra = sorted(mask_of.keys() - image_of.keys())
    faults += [f"mask {mask_of[stem]} has no image in {images}" for stem in extra]
    if images == masks:
        faults += unread_files(images, (*image_suffixes, *MASK_SUFFIXES), "images and masks")
    else:
        faults += unread_files(images, image_suffixes, "images")
        faults += unread_files(masks, MASK_SUFFIXES, "masks")
    items = []
    for stem in sorted(image_of.keys() & mask_of.keys()):
        files = image_of[stem], mask_of[stem]
        make = functools.partial(make_record, *files, labels, empty)
        items.append(Item(files[0].name, make, files))
    skipped = {empty: len(unmasked)} if empty and unmasked else {}
    return Listing(tuple(items), tuple(faults), skipped)


def make_record(image: Path, mask: Path, labels: Labels, empty: str) -> Record:
    """Reads, checks and encodes an image and its mask; arguments as `pair_listing`.

    Raises:
      InputError: if a file cannot be read, sizes differ, or the mask is empty, coloured or
        ambiguous.
      SkippedByDesign: if the mask is empty and `empty` says why.
    """
    data, shape = read_encoded(image, decode=True)
    raw, mode = _read_mask(mask, labels)
    if raw.shape != shape:
        raise InputError(f"mask {mask} is {size_text(raw.shape)} but {image} is {size_text(shape)}")
    if not raw.any() and empty:
        raise SkippedByDesign(empty)
    index, was_soft = as_index(raw, labels, str(mask))
    objects = objects_in(index)
    if not objects:
        raise InputError(f"mask {mask} is empty: expected an object, or remove the pair")
    counts = {
        "objects": len(objects),
        "masks with blended edges, cut at 128": int(was_soft),
        "grey masks saved as colour, read as grey": int(mode in ("RGB", "RGBA", "LA")),
    }
    return Record({"name": image.name, "image": data, "mask": index_png(index)}, counts)


def as_index(raw: np.ndarray, labels: Labels, name: str) -> tuple[np.ndarray, bool]:
    """A mask as a record holds it: ids unchanged, a binary mask as 0 and 1 (cut at 128).

    Args:
      raw: uint8 `[h, w]`, the mask's values.
      labels: their meaning.
      name: of the mask, for messages.

    Returns:
      uint8 `[h, w]`, and whether it had grey edges.

    Raises:
      InputError: as `targets.is_binary`, or if the brightest value of a binary mask is in 2..127.
    """
    if labels == "binary":
        highest = int(raw.max())
        if 1 < highest < 128:
            raise InputError(
                f"mask {name} holds values up to {highest}: expected 0/1 or 0/255 (ids:"
                " image_masks)"
            )
        binary = highest > 1
    else:
        binary = is_binary(raw, name)
    if not binary:
        return raw, False
    return (raw >= 128).astype(np.uint8), bool(((raw > 0) & (raw < VOID)).any())


def _read_mask(path: Path, labels: Labels) -> tuple[np.ndarray, str]:
    """A mask's values, uint8 [h, w], and Pillow's mode of the file.

    The indices of a palette are ids; where a binary mask has a palette of greys, the greys count.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode == "P" and labels == "binary":
                colours = np.asarray(image.convert("RGB"))
                if (colours == colours[..., :1]).all():
                    return np.ascontiguousarray(colours[..., 0]), mode
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow's own text names a memory address.
        reason = "no image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"mask {path} cannot be read ({reason}): expected a PNG") from None
    return decode_labels(data, str(path)), mode
