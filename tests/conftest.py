"""What tests share: two simulated devices, a compilation cache, a tiny network, a tiny dataset."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Before JAX starts. Compiling takes most of the suite's time, and much of it is compiled twice.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")

import cv2
import jax
import numpy as np
import pytest

from tests.tiny import TINY, disc


@pytest.fixture(scope="session")
def tiny_model():
    from qmra_jax import build_model

    return build_model(TINY)


@pytest.fixture(scope="session")
def tiny_variables(tiny_model):
    """Variables of sane size, made without compiling an initialiser."""
    from qmra_jax.torch_names import variable_shapes

    rng = np.random.default_rng(0)

    def fill(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if name == "kernel" else 0.1
        return (spread * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map_with_path(fill, variable_shapes(tiny_model))


@pytest.fixture(scope="session")
def tiny_davis(tmp_path_factory):
    """A dataset in the layout of DAVIS 2016: a bright disc crosses two short noisy videos."""
    root = tmp_path_factory.mktemp("davis")
    rng = np.random.default_rng(1)
    for name, frames in (("left", 4), ("right", 5)):
        for k in range(frames):
            mask = disc((44, 60), (20 + 4 * k, 22), 9)
            image = np.where(mask[..., None], (60, 60, 220), rng.integers(0, 120, (44, 60, 3)))
            for kind, array, suffix in (
                ("JPEGImages", image.astype(np.uint8), "jpg"),
                ("Annotations", mask.astype(np.uint8) * 255, "png"),
            ):
                folder = root / kind / "480p" / name
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{k:05d}.{suffix}"), array)
    lists = root / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("left\nright\n")
    return root
