"""From an image and its mask to their record: both are checked, the mask becomes an index PNG."""

import functools
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipeline.builders.items import ByDesign, Item, Listing, Record, index_png
from data_pipeline.builders.unread import unread_files
from data_pipeline.datasets.davis import shortened
from data_pipeline.datasets.folders import IMAGE_SUFFIXES, MASK_SUFFIXES, files_by_stem
from data_pipeline.datasets.targets import is_binary
from qmra_jax.errors import InputError
from qmra_jax.images import decode_image, size_text
from qmra_jax.masks import VOID, decode_labels, objects_in

Labels = Literal["binary", "ids or binary"]
"""What masks hold: one object, in 0/1, 0/255 or blended; or ids, unless they look binary."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def find_root(manual_dir: Path, names: Collection[str], expected: Collection[str]) -> Path:
    """The folder that a dataset was unpacked to: `manual_dir`, or one of these names below it.

    Args:
      manual_dir: that the user gave.
      names: of the folder, as unpacking makes it: "HKU-IS".
      expected: folders, one of which at least tells that this is it: "imgs".

    Raises:
      InputError: if none is there; it says what was expected and what was found.
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
    """The pairs of two folders (which may be one), by file name.

    What has no partner is a fault, and so are images of other kinds.

    Args:
      images: folder of images.
      masks: folder of PNG masks.
      image_suffixes: endings of image files, in lower case.
      labels: what the masks hold.
      empty: why the dataset's design has images with an empty mask or none, in the plural.

    Raises:
      InputError: if a folder is missing, or holds no such files.
    """
    image_of, faults = _by_stem(images, image_suffixes, "images")
    mask_of, more_faults = _by_stem(masks, MASK_SUFFIXES, "masks")
    faults += more_faults
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
    """Reads, checks and encodes an image and its mask; the image's file name is the record's.

    Args:
      image: JPEG or PNG file.
      mask: PNG file.
      labels: what the mask holds.
      empty: as `pair_listing` has it.

    Raises:
      InputError: if a file is no whole image, sizes differ, or the mask is empty, coloured, or
        blended so that its ids are lost.
      ByDesign: if the mask is empty and the dataset means it so.
    """
    data, shape = read_encoded(image)
    raw, mode = _read_mask(mask, labels)
    if raw.shape != shape:
        raise InputError(f"mask {mask} is {size_text(raw.shape)} but {image} is {size_text(shape)}")
    if not raw.any() and empty:
        raise ByDesign(empty)
    index, repaired = as_index(raw, labels, str(mask))
    objects = objects_in(index)
    if not objects:
        raise InputError(f"mask {mask} is empty: expected an object, or remove the pair")
    counts = {
        "objects": len(objects),
        "masks with blended edges, cut at 128": int(repaired),
        "grey masks saved as colour, read as grey": int(mode in ("RGB", "RGBA", "LA")),
    }
    return Record({"name": image.name, "image": data, "mask": index_png(index)}, counts)


def read_encoded(path: Path) -> tuple[bytes, tuple[int, int]]:
    """An image file's bytes and its (height, width), decoded once to know it whole.

    Raises:
      InputError: if it cannot be read, is neither JPEG nor PNG, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"image {path} cannot be read ({error.strerror})") from None
    if data and not data.startswith(_SIGNATURES):
        raise InputError(f"image {path} is neither JPEG nor PNG, whatever its name: convert it")
    height, width = decode_image(data, str(path)).shape[:2]
    return data, (height, width)


def as_index(raw: np.ndarray, labels: Labels, name: str) -> tuple[np.ndarray, bool]:
    """A mask as a record holds it: ids as they are, a binary one as 0 and 1.

    Args:
      raw: uint8 `[h, w]`; of a binary mask 0/1, 0/255, or grey in between, which is cut at 128.
      labels: what it holds.
      name: of the mask, for messages.

    Returns:
      uint8 `[h, w]`, and whether blended edges were cut.

    Raises:
      InputError: as `targets.is_binary`, or if a binary mask holds neither 0/1 nor anything of 128
        and above.
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

    A palette's indices are ids. In a binary mask that happens to have a palette of greys, in what
    order ever, the greys count.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode == "P" and labels == "binary":
                seen = np.asarray(image.convert("RGB"))
                if (seen == seen[..., :1]).all():
                    return np.ascontiguousarray(seen[..., 0]), mode
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow would name the bytes' place in memory.
        reason = "no image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"mask {path} cannot be read ({reason}): expected a PNG") from None
    return decode_labels(data, str(path)), mode


def _by_stem(
    folder: Path, suffixes: Collection[str], kind: str
) -> tuple[Mapping[str, Path], list[str]]:
    """As `files_by_stem`; a name with a second ending is a fault, and the first one counts."""
    by_stem, twice = files_by_stem(folder, suffixes, kind)
    return by_stem, [
        f"{path}: the same name as {by_stem[path.stem].name}, with another ending" for path in twice
    ]
