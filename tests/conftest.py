"""What tests share: two simulated devices, a compilation cache, a tiny network, a tiny dataset."""

import functools
import os
import types
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

from qmra_jax.training.parallel import simulate_devices
from tests.support.tiny import TINY, disc, random_variables

# With train.py's own flags, which count for the cache: what tests compiled, its processes find.
simulate_devices(int(os.environ["JAX_NUM_CPU_DEVICES"]))

# Shared out by file; what compiles most goes first, so that no worker is left alone with it.
FIRST = (
    "test_train_resume",
    "test_model_variants",
    "test_network",
    "test_train",
    "test_parallel_invariance",
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
    """A run's config on that dataset, with validation on it; tests change copies of it."""
    from tests.support.tiny_config import get_config

    config = get_config()
    config.data.root = str(tiny_davis)
    config.eval.every = 5
    config.eval.videos = ".:val"
    return config


@pytest.fixture(scope="session")
def compile_once():
    """Runs of `train.train` with one config share what each would trace and compile anew."""
    import train

    made = {}

    # What a step is not made of; everything else is in the key below.
    rest = ("data", "eval", "init", "init_from", "profile", "cpu_devices", "batch_size")
    rest += ("log_every", "picture_every", "checkpoint_every", "keep_checkpoints", "keep_best")

    def make_train_step(model, optimizer, schedule, config, make=train.make_train_step):
        key = model, str({k: v for k, v in config.to_dict().items() if k not in rest})
        if key not in made:
            made[key] = make(model, optimizer, schedule, config)
        return made[key]

    def init_variables(*args, make=train.init_variables):  # kept as copies: a run donates its own
        return jax.tree.map(lambda x: np.array(x, copy=True), make(*args))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_train_step", make_train_step)
        cached = {"parallelize": functools.cache(train.parallel.parallelize)}
        # train's alone: other tests take the module as it is.
        patch.setattr(train, "parallel", types.SimpleNamespace(**(vars(train.parallel) | cached)))
        patch.setattr(train, "make_inspect", functools.cache(train.make_inspect))
        patch.setattr(train, "init_variables", functools.cache(init_variables))
        yield


@pytest.fixture(scope="session")
def finished_run(tiny_config, compile_once, tmp_path_factory):
    """The workdir of a run that nothing interrupted, on two devices."""
    import train

    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert train.train(tiny_config, workdir) == 0
    return workdir
