"""Base classes of the result writers, which receive every frame in order."""

import abc
import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole
from qmra_jax.video.reader import Frame, VideoReader


class FrameObjects(NamedTuple):
    """The n objects in a frame."""

    labels: np.ndarray  # uint8 [h, w]: 0 background, else an object's id
    boxes: np.ndarray  # int32 [n, 4]: x, y, width, height by B_q; zeros if not visible
    ids: tuple[int, ...] = ()  # ascending
    scores: tuple[float, ...] = ()  # see `score`; empty unless a writer needs them


class ResultWriter(abc.ABC):
    """Writes one kind of result to a folder: a file, or a folder of files.

    A context manager. The file appears when the block ends, also with an `InputError` such as an
    unreadable frame, as the frames so far are good. Any other error leaves no file.
    """

    name: str
    """Name of the file or folder."""
    scored = False
    """Whether it needs `FrameObjects.scores`."""

    def __init__(self, folder: Path, video: VideoReader):
        """Writes nothing yet.

        Raises:
          InputError: if this machine cannot write the format.
        """
        self.path = folder / self.name
        self.video = video

    @abc.abstractmethod
    def open(self, stack: contextlib.ExitStack) -> None:
        """Opens the output; `stack` closes it, or discards it after an error."""

    @abc.abstractmethod
    def write(self, frame: Frame, objects: FrameObjects) -> None:
        """Adds the next frame, whose `image` is never None."""

    @classmethod
    def remove(cls, folder: Path) -> None:
        """Removes an earlier result from the folder."""
        (folder / cls.name).unlink(missing_ok=True)

    def __enter__(self) -> "ResultWriter":
        with contextlib.ExitStack() as stack:
            self.open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, InputError):
            kind = error = trace = None
        self._stack.__exit__(kind, error, trace)


class TextWriter(ResultWriter):
    """Writes a text file line by line."""

    def open(self, stack: contextlib.ExitStack) -> None:
        part = stack.enter_context(written_whole(self.path))
        self.file = stack.enter_context(part.open("w", newline="", encoding="utf-8"))
