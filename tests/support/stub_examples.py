"""Examples that reveal the process that makes them; light, as workers import this."""

import dataclasses
import logging
import os
import sys
import time
from pathlib import Path

import numpy as np

from data_pipeline.triplets.examples import HostExamples
from data_pipeline.triplets.triplets import Triplet

HEAVY = {"jax", "jaxlib", "flax", "tensorflow", "tensorflow_datasets", "av", "google.protobuf"}


@dataclasses.dataclass(frozen=True)
class Probe:
    """Examples named after the heavy modules that are loaded once they are made."""

    examples: HostExamples

    @property
    def batch(self):
        return self.examples.batch

    @property
    def crop(self):
        return self.examples.crop

    def __call__(self, n):
        _, triplet = self.examples(n)
        return ",".join(sorted(HEAVY & set(sys.modules))), triplet


@dataclasses.dataclass(frozen=True)
class Stub:
    """Triplet n is filled with n and named after the process; `slow` and `broken` are numbers."""

    batch: int = 4
    crop: int = 16
    slow: int = -1  # waits for the file `released`, which example 7 makes
    released: str = ""
    broken: int = -1
    warning: str = ""

    def __call__(self, n):
        if n == self.slow:
            while not os.path.exists(self.released):
                time.sleep(0.01)
        if n == 7 and self.released:
            Path(self.released).touch()
        if n == self.broken:
            raise ZeroDivisionError(f"example {n}")
        if self.warning:
            logging.getLogger("absl").warning(self.warning)
        images = np.full((3, self.crop, self.crop, 3), n % 251, np.uint8)
        return str(os.getpid()), Triplet(images, images[..., 0], np.full((3, 4), n, np.int32))
