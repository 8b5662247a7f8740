"""Atomic writes, output folders and the order of file names."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from qmra_jax.errors import InputError


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Writes a file atomically: readers see the old file or the new one, never a part.

    If the block raises, `path` is left as it was. The folder is created if needed.

    Yields:
      A temporary hidden path in the same folder; it replaces `path` when the block ends.

    Raises:
      InputError: if the folder cannot be created or written to.
    """
    path = Path(path)
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL, such as gs://bucket/runs/small."""
    return "://" in str(path)


def by_number(path: Path) -> tuple:
    """Sort key that compares digits as numbers: 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdecimal() else part.lower() for part in parts], str(path)


def make_folder(folder: Path, *, advice: str = "give another output") -> None:
    """Creates a folder if needed and checks that it is writable.

    Args:
      folder: to create.
      advice: what the error message tells the user to do.

    Raises:
      InputError: if the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to {folder} ({reason}): {advice}") from None
