"""Runs of a few steps, made without training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from qmra_jax.training import checkpoint
from qmra_jax.training.train_state import create_train_state
from tests.support.tiny import TINY

# As an older version wrote it: some of today's settings are missing.
MODEL = TINY | {"reader": "dot", "dtype": "float32", "batch_norm": "frozen"}
INIT = {"encoders": "", "features": "", "key_projection": "random"}
CONFIG = ConfigDict({"model": MODEL, "init_from": "", "init": INIT})
FEATURES = "dinov2_vits14:width=24,depth=2,heads=2,grid=5"
FEATURED_CONFIG = ConfigDict({"model": MODEL | {"features": FEATURES}, "init": INIT})
FEW = {
    "params": {"box_decoder": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}},
    "batch_stats": {"mean": np.ones(4, np.float32)},
}


def make_state(step, variables=FEW, ema=False):
    """A state after `step` steps; its moving average is the parameters plus 1."""
    state = create_train_state(variables, optax.scale_by_adam(), ema=ema)
    if ema:
        state = state.replace(ema_params=jax.tree.map(lambda x: x + 1, state.params))
    return state.replace(step=jnp.int32(step))


def save(run, *states, keep=3, best=lambda steps: (), config=CONFIG):
    """Saves the states as checkpoints of a run."""
    with checkpoint.open_checkpoints(run, keep, best) as manager:
        for state in states:
            checkpoint.save(manager, state, checkpoint.make_meta(config, state.frozen))


def shapes(state):
    """The shapes of a state."""
    return jax.eval_shape(lambda: state)
