"""Metrics and pictures of a run: JSON lines for programs, TensorBoard for people."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf


class MetricWriter:
    """Writes `workdir/metrics.jsonl`, `workdir/pictures/*.png` and TensorBoard's event files.

    A run that goes on from a checkpoint drops the lines that the checkpoint has not seen, so that
    each step stands there once.
    """

    def __init__(self, workdir: Path, first_step: int = 0):
        """Opens the files of a run that goes on after `first_step` steps."""
        self._pictures = workdir / "pictures"
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= first_step]
        path.write_text("".join(line + "\n" for line in kept))
        self._lines = path.open("a")
        self._board = tf.summary.create_file_writer(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """Writes figures of a step, floats by name."""
        values = {name: float(value) for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        with self._board.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture of a step, uint8 `[h, w, 3]`."""
        cv2.imwrite(str(self._pictures / f"{name}-{step:07d}.png"), image[..., ::-1])
        with self._board.as_default(step):
            tf.summary.image(name, image[None])

    def close(self) -> None:
        """Flushes and closes the files."""
        self._lines.close()
        self._board.close()


def _step(line: str) -> int:
    """The step of a line; one cut off by a crash counts as never written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return 2**62
