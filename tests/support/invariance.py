"""Five steps of SGD on a given number of devices and processes, for `test_parallel_invariance.py`.

    python -m tests.support.invariance FOLDER CASE [CASE ...]                one process
    python -m tests.support.invariance FOLDER CASE ... --rank=0 --port=5000  one of two

A case is NETWORK:WRAPPER:DEVICES[:SEED] with the NETWORK miniature or real; its losses and
parameters are written to FOLDER/CASE.RANK.npz.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from configs import common
from qmra_jax import build_model
from qmra_jax.network.batch_norm import BatchNorm
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.model import QMRA
from qmra_jax.training import parallel
from qmra_jax.training.optimizer import make_optimizer, make_schedule
from qmra_jax.training.train_state import create_train_state
from qmra_jax.training.train_step import make_train_step
from tests.support.tiny import TINY, random_variables

STEPS, BATCH, SIZE = 5, 16, 32


class Miniature(nn.Module):
    """Replaces QMRA, which takes long to compile: one layer with BatchNorm, mean as memory."""

    remembers = QMRA.remembers
    targets = QMRA.targets
    inference = QMRA.inference

    batch_norm: str = "sync"
    dtype: str = "float32"
    stats_axis: str | None = None
    reader: str = "none"
    stages: int = 2
    align: str = "box"
    refine: str = "crm"

    def setup(self):
        self.query_encoder = nn.Dense(8, use_bias=False)
        self.bn = BatchNorm(self.stats_axis)
        self.box_decoder = nn.Dense(2)

    def __call__(self, query, memory_images, memory_maps):
        frames = [self.encode(memory_images[:, i], memory_maps[:, i]) for i in range(2)]
        return self.answer(query, sum(frames))

    def with_predicted_maps(self, query, images, maps, predicted, gradient):
        first = self.encode(images[:, 0], maps[:, 0])
        stored = jax.nn.softmax(self.answer(images[:, 1], first)["box"])[..., 1:]
        stored = stored if gradient else jax.lax.stop_gradient(stored)
        second = jnp.where(predicted[:, None, None, None], stored, maps[:, 1])
        return self.answer(query, first + self.encode(images[:, 1], second))

    def encode(self, image, box_map):
        seen = self.bn(self.query_encoder(jnp.concatenate([image, box_map], axis=-1)))
        return nn.relu(seen).mean(axis=(1, 2), keepdims=True)

    def answer(self, query, memory):
        seen = self.bn(self.query_encoder(jnp.pad(query, [(0, 0)] * 3 + [(0, 1)])))
        logits = self.box_decoder(nn.relu(seen) * memory)
        return {"box": logits, "mask": 2 * logits, "refined": logits - 0.1}


def make_config(network: str, seed: int, remat: str = "none"):
    """A config with all settings whose result could depend on the number of devices."""
    config = common.get_config()
    config.model.update(TINY)
    config.seed = seed
    config.model.batch_norm = "sync"
    config.memory_maps = "mixed"
    config.optimizer.update(name="sgd", learning_rate=1e-2, encoder_scale=0.5, weight_decay=1e-3)
    config.optimizer.clip_norm = 5.0
    config.model.remat = remat
    if network == "real":  # it is deep: a higher rate amplifies rounding errors
        config.optimizer.learning_rate = 1e-3
    else:
        config.grad_accumulation = 2
        config.ema_decay = 0.9
        config.loss.bootstrap = (0, 4, 0.5)
    return config


def make_batch(seed: int, step: int, rank: int, count: int):
    """A process's part of a global batch of noise."""
    rng = np.random.default_rng([seed, step])
    corner, size = rng.integers(0, 16, (BATCH, 3, 2)), rng.integers(4, 16, (BATCH, 3, 2))
    boxes = np.concatenate([corner, size], axis=-1).astype(np.int32)
    y, x = np.mgrid[:SIZE, :SIZE]
    (left, top), (width, height) = np.moveaxis(corner, -1, 0), np.moveaxis(size, -1, 0)
    masks = _inside(x, left, width) & _inside(y, top, height)
    images = rng.integers(0, 128, (BATCH, 3, SIZE, SIZE, 3)) + 100 * masks[..., None]
    part = slice(rank * BATCH // count, (rank + 1) * BATCH // count)
    batch = {"images": images.astype(np.uint8), "masks": masks.astype(np.uint8), "boxes": boxes}
    return {name: value[part] for name, value in batch.items()}


def _inside(at, low, length):
    low = low[..., None, None]
    return (at >= low) & (at < low + length[..., None, None])


def run(network: str, mode: str, devices: list[jax.Device], seed: int = 0) -> dict[str, Any]:
    """Trains on these devices; returns "losses" `[steps]` and the arrays of the state."""
    # Rematerialisation, here on several devices only, does not change the numbers.
    config = make_config(network, seed, remat="none" if len(devices) == 1 else "all")
    model = Miniature() if network == "miniature" else build_model(config.model)
    optimizer = make_optimizer(config.optimizer, STEPS)
    schedule = make_schedule(config.optimizer, STEPS)
    variables = random_variables(variable_shapes(model), seed)
    step = parallel.parallelize(make_train_step(model, optimizer, schedule, config), mode, devices)
    state = create_train_state(variables, optimizer, ema=bool(config.ema_decay))
    state, losses = parallel.replicate(state, mode, devices), []
    for k in range(STEPS):
        batch = make_batch(seed, k, jax.process_index(), jax.process_count())
        state, metrics = step(state, batch)
        losses.append(jax.device_get(parallel.local_copy(metrics["loss"])))
    end = jax.device_get(parallel.local_copy(state))
    trees = {"start": variables["params"], "params": end.params, "stats": end.batch_stats}
    if end.ema_params is not None:
        trees["ema"] = end.ema_params
    return {"losses": np.asarray(losses), **traverse_util.flatten_dict(trees, sep="/")}


def main() -> None:
    """Runs the cases given on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.port:
        jax.distributed.initialize(f"127.0.0.1:{arguments.port}", 2, arguments.rank)
    for case in arguments.cases:
        network, mode, count, *seed = case.split(":")
        result = run(network, mode, jax.devices()[: int(count)], *map(int, seed))
        np.savez(arguments.folder / f"{case}.{arguments.rank}.npz", **result)


if __name__ == "__main__":
    main()
