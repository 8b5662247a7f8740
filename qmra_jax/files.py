"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to; what was written takes its place at `path` once the block ends.

    A reader therefore sees the old file or the new one, never half of it, and a block that raises
    leaves `path` as it was. The folder is made if need be.

    Args:
      path: of the file to make or to replace.

    Yields:
      A hidden path in the same folder (a rename cannot cross file systems).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
