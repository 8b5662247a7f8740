"""Shared by all tests: two devices, a compilation cache, tiny networks, a tiny dataset."""

import functools
import os
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Set before JAX initialises. The suite mostly compiles, and much of it the same programs.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
# Halves the time of compiling; level 0 makes slow programs.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=1 " + os.environ.get("XLA_FLAGS", "")
).strip()

import cv2
import jax
import numpy as np
import pytest

from qmra_jax.training.parallel import simulate_devices
from tests.support.tiny import TINY, disc, random_variables

# With the flags of train.py, which are part of the cache key, so that its processes hit the cache.
simulate_devices(int(os.environ["JAX_NUM_CPU_DEVICES"]))

# pytest-xdist distributes files; the slowest go first, so that no worker is left alone with one.
FIRST = (
    "test_model_variants",
    "test_train",
    "test_network",
    "test_parallel_invariance",
    "test_train_resume",
)


def pytest_collection_modifyitems(items):
    first = {name: k for k, name in enumerate(FIRST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


@pytest.fixture(scope="session")
def tiny_model():
    from qmra_jax import build_model

    return build_model(TINY)


@pytest.fixture(scope="session")
def tiny_variables(tiny_model):
    from qmra_jax.network.build import variable_shapes

    return random_variables(variable_shapes(tiny_model))


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


@pytest.fixture(scope="session")
def tiny_config(tiny_davis):
    """Config of a run on that dataset, with validation on it; tests change copies of it."""
    from tests.support.tiny_config import get_config

    config = get_config()
    config.data.root = str(tiny_davis)
    config.eval.every = 5
    config.eval.videos = ".:val"
    return config


@pytest.fixture(scope="session")
def compile_once():
    """Makes runs of `train.train` that differ in no setting of the step share their functions."""
    import train

    steps = {}
    ignored = ("data", "eval", "init", "init_from", "profile", "cpu_devices", "batch_size")
    ignored += ("log_every", "picture_every", "checkpoint_every", "keep_checkpoints", "keep_best")

    def make_train_step(model, optimizer, schedule, config, make=train.make_train_step):
        key = model, str({k: v for k, v in config.to_dict().items() if k not in ignored})
        if key not in steps:
            steps[key] = make(model, optimizer, schedule, config)
        return steps[key]

    def init_variables(*args, make=train.init_variables):  # copied, as a run donates its state
        return jax.tree.map(lambda x: np.array(x, copy=True), make(*args))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_train_step", make_train_step)
        cached = {"parallelize": functools.cache(train.parallel.parallelize)}
        # Only train's reference: other tests use the module unpatched.
        patch.setattr(train, "parallel", types.SimpleNamespace(**(vars(train.parallel) | cached)))
        patch.setattr(train, "make_inspect", functools.cache(train.make_inspect))
        patch.setattr(train, "init_variables", functools.cache(init_variables))
        yield


@pytest.fixture(scope="session")
def finished_run(tiny_config, compile_once, tmp_path_factory):
    """Workdir of an uninterrupted run of the tiny network on two devices."""
    import train

    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert train.train(tiny_config, workdir) == 0
    return workdir


@pytest.fixture
def miniature(monkeypatch):
    """Makes `train.train` train the network `Miniature`, which compiles in no time."""
    import train
    from tests.support.invariance import Miniature

    monkeypatch.setattr(train, "build_model", lambda config: Miniature(config.batch_norm))


@pytest.fixture(scope="session")
def miniature_config(tiny_config):
    """`tiny_config` without validation, which needs the real network; tests change copies of it."""
    config = tiny_config.copy_and_resolve_references()
    config.eval.every = 0
    return config


@pytest.fixture(scope="session")
def miniature_run(miniature_config, compile_once, tmp_path_factory):
    """Workdir of an uninterrupted run of `Miniature` on two devices."""
    import train

    workdir = tmp_path_factory.mktemp("miniature") / "run"
    with pytest.MonkeyPatch.context() as patch:
        miniature.__wrapped__(patch)
        assert train.train(miniature_config, workdir) == 0
    return workdir
