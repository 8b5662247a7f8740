"""Image sequences: the images of a folder or a glob, as frames of a video."""

import glob
import itertools
import re
from collections import Counter
from pathlib import Path

from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.files import by_number
from qmra_jax.images import size_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_EXIF_ORIENTATION = 0x0112  # values 5 to 8 swap width and height


def find_images(path: Path) -> tuple[Path, ...]:
    """The images of a folder, or all files that match a glob, in natural order.

    Raises:
      InputError: if there are none, or two differ only in their suffix.
    """
    if path.is_dir():
        images = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        images = [p for p in images if not p.name.startswith(".")]
        what = f"folder {path}"
    else:
        images = [p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()]
        what = f"glob {path}"
    if not images:
        raise InputError(
            f"{what} holds no images: expected {', '.join(IMAGE_SUFFIXES)} files, one per frame"
        )
    # 00000.jpg beside 00000.png: frames and their masks, which are not one video.
    (_, name), times = Counter((p.parent, p.stem) for p in images).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{what} holds {times} images named {name}: expected one per frame; keep frames"
            " and masks in separate folders"
        )
    return tuple(sorted(images, key=by_number))


def gaps(images: tuple[Path, ...]) -> str | None:
    """A warning about gaps in the numbering of the images; None if there are none.

    A constant step, such as 0, 5, 10, is no gap.
    """
    split = [re.fullmatch(r"(.*?)(\d+)", str(path.with_suffix(""))) for path in images]
    if len({match and match[1] for match in split}) > 1 or split[:1] in ([], [None]):
        return None
    numbers = [int(match[2]) for match in split if match]
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    wide = [k for k, step in enumerate(steps) if step != min(steps)]
    if not wide:
        return None
    more = f" and in {len(wide) - 1} more place{'s' * (len(wide) > 2)}" if len(wide) > 1 else ""
    return (
        f"{images[0].parent}: numbers are missing between {images[wide[0]].name} and"
        f" {images[wide[0] + 1].name}{more}; these images are taken for successive frames"
    )


def common_size(images: tuple[Path, ...]) -> tuple[int, int]:
    """(height, width) of all images, from their headers; unreadable ones are skipped.

    Raises:
      InputError: if two sizes differ, or no image can be opened.
    """
    first: tuple[Path, tuple[int, int]] | None = None
    for path in images:
        try:
            with Image.open(path) as image:
                size = (image.height, image.width)
                if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
                    size = (image.width, image.height)
        except OSError:
            continue
        first = first or (path, size)
        if size != first[1]:
            raise InputError(
                f"image {path} is {size_text(size)}, {first[0].name} is {size_text(first[1])}:"
                " expected one size; resize the images or split the folder"
            )
    if first is None:
        raise InputError(f"no image can be opened, such as {images[0]}: expected jpg or png")
    return first[1]
