"""Metrics and pictures of a run, as JSON lines, PNG files and TensorBoard events."""

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from etils import epath
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from qmra_jax.files import is_remote
from qmra_jax.training import distributed
from qmra_jax.training.workdir import make_subfolder, write_text

REMOTE_SECONDS = 60  # between uploads of the metrics to a bucket, whose objects cannot be appended


def open_writer(workdir: epath.PathLike, first_step: int = 0) -> "MetricWriter | NoWriter":
    """A `MetricWriter` in the first process, a `NoWriter` in the others."""
    return MetricWriter(workdir, first_step) if distributed.is_first() else NoWriter()


class NoWriter:
    """Has the methods of `MetricWriter`, and writes nothing."""

    def scalars(self, step: int, values: dict[str, Any]) -> None: ...

    def picture(self, step: int, name: str, image: np.ndarray) -> None: ...

    def close(self) -> None: ...


class MetricWriter:
    """Writes `workdir/metrics.jsonl`, `workdir/pictures/*.png` and TensorBoard's event files.

    A run that resumes from a checkpoint first drops the lines of later steps, so that no step is
    logged twice. A step that is logged and validated has one line for each.
    """

    def __init__(self, workdir: epath.PathLike, first_step: int = 0):
        """Opens the files of a run that resumes after `first_step` steps."""
        workdir = epath.Path(workdir)
        self._pictures = make_subfolder(workdir, "pictures")
        self._lines = _Lines(workdir / "metrics.jsonl", first_step)
        self._events = _Events(make_subfolder(workdir, "tensorboard"))

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """Writes a step's metrics, by name."""
        values = {name: float(value) for name, value in values.items()}
        self._lines.append(json.dumps({"step": step, **values}))
        self._events.add(step, [Summary.Value(tag=n, simple_value=v) for n, v in values.items()])

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture, uint8 `[h, w, 3]`, RGB."""
        _, png = cv2.imencode(".png", image[..., ::-1])
        (self._pictures / f"{name}-{step:07d}.png").write_bytes(png.tobytes())
        # JPEG, which is smaller: TensorBoard's pure Python checksums take 0.5 s per megabyte.
        _, jpeg = cv2.imencode(".jpg", image[..., ::-1])
        height, width, _ = image.shape
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=jpeg.tobytes()
        )
        self._events.add(step, [Summary.Value(tag=name, image=picture)])

    def close(self) -> None:
        """Flushes and closes the files."""
        self._lines.close()
        self._events.close()


class _Events:
    """A TensorBoard event file; each start of a run opens a new one.

    Uses TensorBoard's `RecordWriter`, as its `EventFileWriter` imports TensorFlow if installed. In
    a bucket, events appear once a minute if the bucket's client can flush, else on closing.
    """

    def __init__(self, folder: epath.Path):
        now = time.time()
        name = f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = RecordWriter((folder / name).open("wb"))
        self._flush_seconds = REMOTE_SECONDS if is_remote(folder) else 0
        self._flushed = float("-inf")
        self._write(Event(wall_time=now, file_version="brain.Event:2"))

    def add(self, step: int, values: Sequence[Summary.Value]) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._file.write(event.SerializeToString())
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self._file.flush()
            self._flushed = time.monotonic()


class _Lines:
    """A text file: lines are appended on a disk; a bucket's object is rewritten once a minute."""

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


def _step(line: str) -> float:
    """The step of a line; infinite for a line that a crash cut off, which is then dropped."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
