"""Files that are either whole or not there."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from qmra_jax.errors import InputError


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to; what was written takes its place at `path` once the block ends.

    A reader therefore sees the old file or the new one, never half of it, and a block that raises
    leaves `path` as it was. The folder is made if need be.

    Args:
      path: of the file to make or to replace.

    Yields:
      A hidden path in the same folder (a rename cannot cross file systems).

    Raises:
      InputError: if the folder cannot be made or written to.
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
    """Whether a path lies in a bucket, such as gs://bucket/runs/small."""
    return "://" in str(path)


def by_number(path: Path) -> tuple:
    """A key to sort by in which digits count as numbers: 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdecimal() else part.lower() for part in parts], str(path)


def make_folder(folder: Path, *, advice: str = "give another output") -> None:
    """Makes a folder to write to, if need be, and finds out whether it can be written to.

    Args:
      folder: to make.
      advice: what to do where it cannot be written to.

    Raises:
      InputError: if not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to {folder} ({reason}): {advice}") from None
