"""Metrics and pictures of a run: JSON lines for programs, TensorBoard for people."""

import json
import time
from typing import Any, Protocol

import cv2
import numpy as np
import tensorflow as tf
from etils import epath

from qmra_jax.training import distributed
from qmra_jax.training.workdir import is_remote, make_subfolder, write_text

REMOTE_SECONDS = (
    60  # between writings of the lines to a bucket, whose objects cannot be appended to
)


class Writer(Protocol):
    """What `open_writer` gives."""

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """Writes figures of a step, floats by name."""

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture of a step, uint8 `[h, w, 3]`."""

    def close(self) -> None:
        """Flushes and closes the files."""


def open_writer(workdir: epath.PathLike, first_step: int = 0) -> Writer:
    """A run's writer in the first process; in others one that writes nothing."""
    workdir = epath.Path(workdir)
    return MetricWriter(workdir, first_step) if distributed.is_first() else NoWriter()


class NoWriter:
    """Writes nothing."""

    def scalars(self, step: int, values: dict[str, Any]) -> None: ...

    def picture(self, step: int, name: str, image: np.ndarray) -> None: ...

    def close(self) -> None: ...


class MetricWriter:
    """Writes `workdir/metrics.jsonl`, `workdir/pictures/*.png` and TensorBoard's event files.

    A run that goes on from a checkpoint drops the lines that the checkpoint has not seen, so that
    each step stands there once. A step written twice, for its training and its validation, has a
    line for each.
    """

    def __init__(self, workdir: epath.PathLike, first_step: int = 0):
        """Opens the files of a run that goes on after `first_step` steps."""
        workdir = epath.Path(workdir)
        self._pictures = make_subfolder(workdir, "pictures")
        self._lines = _Lines(workdir / "metrics.jsonl", first_step)
        self._board = tf.summary.create_file_writer(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """Writes figures of a step, floats by name."""
        values = {name: float(value) for name, value in values.items()}
        self._lines.append(json.dumps({"step": step, **values}))
        with self._board.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture of a step, uint8 `[h, w, 3]`."""
        _, png = cv2.imencode(".png", image[..., ::-1])
        (self._pictures / f"{name}-{step:07d}.png").write_bytes(png.tobytes())
        with self._board.as_default(step):
            tf.summary.image(name, image[None])

    def close(self) -> None:
        """Flushes and closes the files."""
        self._lines.close()
        self._board.close()


class _Lines:
    """A file of lines: on a disk appended to, in a bucket written anew once a minute."""

    def __init__(self, path: epath.Path, first_step: int):
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._text = "".join(line + "\n" for line in lines if _step(line) <= first_step)
        write_text(path, self._text)
        self._written = time.monotonic()
        self._file = None if is_remote(path) else path.open("a")

    def append(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()
            return
        self._text += line + "\n"
        if time.monotonic() - self._written >= REMOTE_SECONDS:
            self._path.write_text(self._text)
            self._written = time.monotonic()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        else:
            self._path.write_text(self._text)


def _step(line: str) -> int:
    """The step of a line; one cut off by a crash counts as never written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return 2**62
