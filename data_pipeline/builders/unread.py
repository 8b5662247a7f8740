"""Images of kinds that a builder does not read: they are told as faults, not passed over."""

from collections.abc import Collection
from pathlib import Path

from data_pipeline.datasets.davis import shortened, visible_files

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("avif", "bmp", "gif", "heic", "jfif", "jp2", "jpeg", "jpg"),
        *("pgm", "png", "ppm", "tga", "tif", "tiff", "webp"),
    )
)


def unread_files(folder: Path, read: Collection[str], kind: str) -> list[str]:
    """A line if a folder holds images that are not read, with the first of them and their number.

    Args:
      folder: to be looked through, without hidden files.
      read: endings of the files that are read, in lower case.
      kind: of file that is expected there: "masks".
    """
    other = IMAGE_SUFFIXES.difference(read)
    names = [path.name for path in visible_files(folder, other)]
    if not names:
        return []
    return [
        f"{folder}: images of kinds that are not read: {len(names):,} ({shortened(names)});"
        f" expected {kind} as {' or '.join(sorted(read))}: convert or remove them"
    ]
