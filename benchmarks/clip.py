"""What is propagated in the benchmark: a network and a made-up clip of a given size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workload import CONFIGS

FRAMES = 8  # that come again and again


@dataclass(frozen=True)
class Clip:
    """Frames to be segmented, at a fixed number of memory frames; picklable.

    Attributes:
      config: a name of `CONFIGS`, and of `torch_qmra.SIZES`.
      height: of the frames, and
      width: theirs, in pixels.
      objects: that are followed.
      memory: frames that each timed frame reads: the first, `memory - 2` extra ones, the previous.
      dtype: "float32" or "bfloat16", of the computation.
      tf32: whether a GPU may round float32 factors to TF32.
      device: "auto", "cpu" or "gpu".
    """

    config: str = "small"
    height: int = 480
    width: int = 854
    objects: int = 1
    memory: int = 5
    dtype: str = "float32"
    tf32: bool = True
    device: str = "auto"

    def model_config(self) -> Any:
        """`config.model`, in this dtype."""
        config = CONFIGS[self.config].get_config().model
        config.dtype = self.dtype
        return config

    def frames(self) -> np.ndarray:
        """uint8 `[FRAMES, h, w, 3]`: discs of different colours drift over smooth noise."""
        rng = np.random.default_rng(0)
        y, x = np.mgrid[: self.height, : self.width].astype(np.float32)
        waves = rng.uniform(-0.05, 0.05, (6, 2))
        ground = sum(np.sin(a * y + b * x) for a, b in waves) * 10 + 80
        frames = np.repeat(ground[None, :, :, None], FRAMES, axis=0).repeat(3, axis=3)
        for k in range(FRAMES):
            for n, (cy, cx, radius) in enumerate(self._discs(k)):
                inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
                frames[k, inside] = (90 + 40 * n, 230 - 35 * n, 60 + 60 * (n % 3))
        noise = rng.normal(0, 8, frames.shape)
        return np.clip(frames + noise, 0, 255).astype(np.uint8)

    def boxes(self) -> np.ndarray:
        """int32 `[objects, 4]`: x, y, width, height of the discs in the first frame."""
        return np.asarray(
            [[cx - r, cy - r, 2 * r, 2 * r] for cy, cx, r in self._discs(0)], np.int32
        )

    def _discs(self, k: int) -> list[tuple[float, float, float]]:
        """Centres (y, x) and radii in frame k: side by side, each on a way of its own."""
        step = self.width / self.objects
        radius = min(step * 0.3, self.height * 0.3, 60)  # which the small network follows
        return [
            (self.height * (0.5 + 0.02 * k * (-1) ** n), step * (n + 0.5) + 2 * k, radius)
            for n in range(self.objects)
        ]
