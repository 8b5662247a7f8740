"""What training is timed on: a config's network and synthetic triplets."""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs import common, small
from qmra_jax.boxes import mask_to_box

CONFIGS = {"small": small, "paper": common}
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Setup:
    """How programs compute; picklable."""

    config: str = "small"  # a name of `CONFIGS`, and of `torch_qmra.SIZES`
    dtype: str = "float32"  # of the computation, one of `DTYPES`; trained parameters are float32
    tf32: bool = True  # whether a GPU may round float32 factors to TF32
    device: str = "auto"  # or "cpu", "gpu"

    def base_config(self) -> Any:
        """The named config, in this dtype."""
        config = CONFIGS[self.config].get_config()
        config.model.dtype = self.dtype
        return config


def add_options(add) -> None:
    """Adds the options of `Setup`, but for --config."""
    add("--dtype", choices=DTYPES, default="float32", help="of the computation")
    tf32 = "a GPU may round float32 factors to TF32"
    add("--tf32", action=argparse.BooleanOptionalAction, default=True, help=tf32)
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: auto")
    add("--compile", action="store_true", help="torch.compile too")


@dataclass(frozen=True)
class Workload(Setup):
    """A train step; 0 stands for the config's value."""

    crop: int = 0  # height and width of the images, a multiple of 16
    batch_size: int = 0
    devices: int = 0  # simulated CPU devices that share the batch

    def training_config(self) -> Any:
        """The config with these values."""
        config = self.base_config()
        config.data.crop = self.crop or config.data.crop
        config.batch_size = self.batch_size or config.batch_size
        config.cpu_devices = self.devices or config.cpu_devices
        return config

    def batch(self) -> dict[str, np.ndarray]:
        """Triplets as the data pipeline makes them: noise, with a disc as the object."""
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
        return {"images": images, "masks": masks, "boxes": mask_to_box(masks)}
