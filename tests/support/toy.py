"""A replacement for the network whose step compiles in no time, and a batch for it."""

from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import common
from qmra_jax.training.optimizer import make_optimizer, make_schedule
from qmra_jax.training.train_state import create_train_state
from qmra_jax.training.train_step import make_train_step

RATE = 0.05
RNG = np.random.default_rng(0)
BATCH = {
    "images": RNG.integers(1, 256, (4, 3, 16, 16, 3)).astype(np.uint8),
    "masks": RNG.integers(0, 2, (4, 3, 16, 16)).astype(np.uint8),
    "boxes": np.tile(np.array([2, 3, 8, 5], np.int32), (4, 3, 1)),
}
BLACK = BATCH | {
    "images": BATCH["images"] * np.array([1, 0, 1, 1], np.uint8)[:, None, None, None, None]
}
PARAMS = {
    "query_encoder": {"rgb": np.array([0.3, -0.2, 0.5], np.float32)},
    "box_decoder": {"memory": np.float32(0.7), "bias": np.float32(0.1)},
}


class Toy:
    """Linear in the colours; a black query makes the logits NaN."""

    batch_norm = "frozen"
    dtype = "float32"
    reader = "none"
    remembers = "box"
    targets = MappingProxyType({"box": "box", "mask": "mask", "refined": "mask"})

    def apply(self, variables, query, images, maps, *, mutable=(), **_):
        w = variables["params"]
        seen = query @ w["query_encoder"]["rgb"] / query.max(axis=(1, 2, 3))[:, None, None]
        seen = seen + images.mean((1, 4)) * maps.mean((1, 4)) * w["box_decoder"]["memory"]
        logits = jnp.stack([-seen, seen + w["box_decoder"]["bias"]], axis=-1)
        outputs = {"box": logits, "mask": 2 * logits, "refined": logits + 0.1}
        return (outputs, {}) if mutable else outputs


def toy_config(**values):
    """A config with SGD at `RATE`, and the given settings."""
    config = common.get_config()
    config.optimizer.update(name="sgd", momentum=0.0, learning_rate=RATE)
    config.update_from_flattened_dict(values)
    return config


def toy_step(config):
    """The per-device step."""
    schedule = make_schedule(config.optimizer, 10)
    return make_train_step(Toy(), make_optimizer(config.optimizer, 10), schedule, config)


def toy_state(config):
    """An initial state, which a step may be donated."""
    optimizer = make_optimizer(config.optimizer, 10)
    variables = {"params": PARAMS, "batch_stats": {}}
    return create_train_state(variables, optimizer, ema=bool(config.ema_decay))


def distance(a, b):
    """The norm of the difference of two trees."""
    return float(optax.tree.norm(jax.tree.map(lambda x, y: x - y, a, b)))
