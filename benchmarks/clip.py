"""What propagation is timed on: a network and a synthetic clip."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workload import Setup

FRAMES = 8  # different ones, which repeat


@dataclass(frozen=True)
class Clip(Setup):
    """Frames to segment with a fixed number of memory frames."""

    height: int = 480
    width: int = 854
    objects: int = 1
    memory: int = 5  # frames that each one reads: the first, `memory - 2` extra ones, the previous

    def model_config(self) -> Any:
        """`config.model`, in this dtype."""
        return self.base_config().model

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
        """Centres (y, x) and radii in frame k: side by side, each on its own path."""
        step = self.width / self.objects
        radius = min(step * 0.3, self.height * 0.3, 60)  # a size that the small network segments
        return [
            (self.height * (0.5 + 0.02 * k * (-1) ** n), step * (n + 0.5) + 2 * k, radius)
            for n in range(self.objects)
        ]
