"""From an image and its mask to their record: both are checked, the mask becomes an index PNG."""

import dataclasses
import functools
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipeline.builders.base import ByDesign, Item, Listing, Record, index_png
from data_pipeline.builders.unread import unread_files
from data_pipeline.datasets.davis import shortened
from qmra_jax.errors import InputError
from qmra_jax.images import decode_image
from qmra_jax.masks import VOID, decode_labels

Labels = Literal["binary", "ids or binary"]
"""What masks hold: one object, in 0/1, 0/255 or blended; or ids, unless they look binary."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIXES = (".png",)
MAX_ID = 127  # values above are a blended 0/255 mask's, as `data_pipeline.datasets.targets` has it
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """What one record is made from.

    Attributes:
      image: JPEG or PNG file; its file name is the record's.
      mask: PNG file.
      labels: what the mask holds.
      empty: why the dataset's design has empty masks, in the plural; "" where it has none.
    """

    image: Path
    mask: Path
    labels: Labels = "binary"
    empty: str = ""

    def item(self) -> Item:
        """The record to be made."""
        make = functools.partial(make_record, self)
        return Item(self.image.name, make, (self.image, self.mask))


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
    partners, more_faults = _by_stem(masks, MASK_SUFFIXES, "masks")
    unmasked = sorted(image_of.keys() - partners.keys())
    faults += more_faults
    if not empty:
        faults += [f"image {image_of[stem]} has no mask in {masks}" for stem in unmasked]
    extra = sorted(partners.keys() - image_of.keys())
    faults += [f"mask {partners[stem]} has no image in {images}" for stem in extra]
    if images == masks:
        faults += unread_files(images, (*image_suffixes, *MASK_SUFFIXES), "images and masks")
    else:
        faults += unread_files(images, image_suffixes, "images")
        faults += unread_files(masks, MASK_SUFFIXES, "masks")
    files = [
        RecordFiles(image_of[stem], partners[stem], labels, empty)
        for stem in sorted(image_of.keys() & partners.keys())
    ]
    skipped = {empty: len(unmasked)} if empty and unmasked else {}
    return Listing(tuple(pair.item() for pair in files), tuple(faults), skipped)


def make_record(files: RecordFiles) -> Record:
    """Reads, checks and encodes an image and its mask.

    Raises:
      InputError: if a file is no whole image, sizes differ, or the mask is empty, coloured, or
        blended so that its ids are lost.
      ByDesign: if the mask is empty and the dataset means it so.
    """
    data, size = read_encoded(files.image)
    raw, mode = _read_mask(files.mask, files.labels)
    if raw.shape != size:
        raise InputError(
            f"mask {files.mask} is {_text(raw.shape)} but {files.image} is {_text(size)}"
        )
    if not raw.any() and files.empty:
        raise ByDesign(files.empty)
    index = binary_index if files.labels == "binary" else ids_index
    labels, repaired = index(raw, str(files.mask))
    objects = set(np.unique(labels).tolist()) - {0, VOID}
    if not objects:
        raise InputError(f"mask {files.mask} is empty: expected an object, or remove the pair")
    counts = {
        "objects": len(objects),
        "masks with blended edges, cut at 128": int(repaired),
        "grey masks saved as colour, read as grey": int(mode in ("RGB", "RGBA", "LA")),
    }
    name = files.image.name
    return Record({"name": name, "image": data, "mask": index_png(labels)}, counts)


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


def binary_index(raw: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """A binary mask as labels, 0 and 1.

    Args:
      raw: uint8 `[h, w]`: 0/1, 0/255, or grey in between, which is cut at 128.
      name: of the mask, for messages.

    Returns:
      uint8 `[h, w]`, and whether blended edges were cut.

    Raises:
      InputError: if there are grey values but none of 128 and above.
    """
    highest = int(raw.max())
    if highest <= 1:
        return raw, False
    if highest < 128:
        raise InputError(
            f"mask {name} holds values up to {highest}: expected 0/1 or 0/255 (ids: image_masks)"
        )
    return (raw >= 128).astype(np.uint8), bool(((raw > 0) & (raw < VOID)).any())


def ids_index(raw: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """A mask of ids, or a binary one, as labels; `targets.instance_masks` tells which.

    Here, where a person can still mend it, a mask that could be either is refused.

    Args:
      raw: uint8 `[h, w]`: ids 1..127 with 255 as void, or as `binary_index` takes it.
      name: of the mask, for messages.

    Returns:
      uint8 `[h, w]`, ids unchanged, and whether blended edges were cut.

    Raises:
      InputError: if there are values of 128 to 254, but some value is more frequent than 255, as
        in blended ids; or if ids stand beside more of 255 than void would be.
    """
    counts = np.bincount(raw.ravel(), minlength=256)
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
    if high or top > low:
        return (raw >= 128).astype(np.uint8), bool(high or low)
    return raw, False


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
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {kind} in it ({', '.join(suffixes)})")
    # macOS leaves hidden ._0001.png files beside the real ones.
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != ".")
    if not files:
        found = shortened(path.name for path in folder.iterdir()) or "nothing"
        raise InputError(f"{folder}: expected {kind} ({', '.join(suffixes)}), found {found}")
    by_stem: dict[str, Path] = {}
    faults = []
    for path in files:
        if (first := by_stem.setdefault(path.stem, path)) != path:
            faults.append(f"{path}: the same name as {first.name}, with another ending")
    return by_stem, faults


def _text(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
