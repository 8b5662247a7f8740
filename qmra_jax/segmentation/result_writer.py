"""What every writer of results is: fed every frame in order, and whole or not there."""

import abc
import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole
from qmra_jax.video.reader import Frame, VideoReader


class FrameObjects(NamedTuple):
    """What was found in a frame.

    Attributes:
      labels: uint8 `[h, w]`: 0 background, else an object's id.
      boxes: int32 `[n, 4]`: x, y, width, height of each object by B_q; zeros where not seen.
      ids: of the n objects, in ascending order.
      scores: of each object, in [0, 1]: its mean probability over its mask; none unless a writer
        asks for them.
    """

    labels: np.ndarray
    boxes: np.ndarray
    ids: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()


class ResultWriter(abc.ABC):
    """Makes one kind of result in a folder: a file, or a folder of files.

    As a context manager it puts the file in its place at the end; also after an `InputError`, such
    as a damaged frame, as what was written so far is good. Another error leaves no file.
    """

    name: str
    """Of the file or folder that it makes."""
    scored = False
    """Whether it asks for `FrameObjects.scores`."""

    def __init__(self, folder: Path, video: VideoReader):
        """Touches nothing yet.

        Args:
          folder: to write into.
          video: that is segmented.

        Raises:
          InputError: if it cannot be written on this machine.
        """
        self.path = folder / self.name
        self.video = video

    @abc.abstractmethod
    def open(self) -> None:
        """Begins."""

    @abc.abstractmethod
    def write(self, frame: Frame, objects: FrameObjects) -> None:
        """Adds the next frame, whose `image` is there."""

    @abc.abstractmethod
    def close(self) -> None:
        """Puts the file in its place."""

    @abc.abstractmethod
    def discard(self) -> None:
        """Leaves no file."""

    def remove(self) -> None:
        """Removes an earlier result."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "ResultWriter":
        self.open()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None or isinstance(error, InputError):
            self.close()
        else:
            self.discard()


class TextWriter(ResultWriter):
    """Writes a text file line by line."""

    def open(self) -> None:
        self._stack = contextlib.ExitStack()
        part = self._stack.enter_context(written_whole(self.path))
        self.file = self._stack.enter_context(part.open("w", newline="", encoding="utf-8"))

    def close(self) -> None:
        self._stack.close()

    def discard(self) -> None:
        # As an error would leave the blocks, so that `written_whole` puts nothing in its place.
        with contextlib.suppress(InputError), self._stack:
            raise InputError("discarded")
