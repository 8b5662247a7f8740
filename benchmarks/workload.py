"""What is trained in the benchmark: a config's network, on made-up triplets of its size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from configs import common, small

CONFIGS = {"small": small, "paper": common}


@dataclass(frozen=True)
class Workload:
    """A train step to be timed; picklable.

    Attributes:
      config: a name of `CONFIGS`, and of `torch_qmra.SIZES`.
      crop: height and width of the images, a multiple of 16; 0 for the config's.
      batch_size: triplets; 0 for the config's.
      devices: simulated devices that share the batch on a CPU; 0 for the config's.
      dtype: "float32" or "bfloat16", of the computation; parameters are float32.
      tf32: whether a GPU may round float32 factors to TF32.
      device: "auto", "cpu" or "gpu".
    """

    config: str = "small"
    crop: int = 0
    batch_size: int = 0
    devices: int = 0
    dtype: str = "float32"
    tf32: bool = True
    device: str = "auto"

    def training_config(self) -> Any:
        """The config, with what is given here in its place."""
        config = CONFIGS[self.config].get_config()
        config.model.dtype = self.dtype
        config.data.crop = self.crop or config.data.crop
        config.batch_size = self.batch_size or config.batch_size
        config.cpu_devices = self.devices or config.cpu_devices
        return config

    def batch(self) -> dict[str, np.ndarray]:
        """Triplets as the data pipeline gives them: noise, with a disc as the object."""
        config = self.training_config()
        b, size = config.batch_size, config.data.crop
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:size, :size]
        cy, cx, radius = (
            size * rng.uniform((0.3, 0.3, 0.1), (0.7, 0.7, 0.3), (b, 3, 3)).T[..., None, None]
        )
        masks = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2).astype(np.uint8).swapaxes(0, 1)
        images = rng.integers(0, 128, (b, 3, size, size, 3), np.uint8)
        images += masks[..., None] * 100
        return {"images": images, "masks": masks, "boxes": mask_boxes(masks)}


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Tight boxes of `masks [b, t, h, w]` as the pipeline's: int32 `[b, t, 4]`."""
    from qmra_jax.boxes import mask_to_box

    return np.asarray(mask_to_box(masks), np.int32)
