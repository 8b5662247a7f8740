"""What training changes from step to step: data only, to be sharded and saved as it is."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from qmra_jax.model import QMRA


class TrainState(struct.PyTreeNode):
    """The state of a run.

    Attributes:
      step: int32 scalar: steps done.
      params: float32 parameter tree.
      batch_stats: BatchNorm's stored statistics, frozen.
      opt_state: the optimiser's.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState


def init_variables(model: QMRA, seed: int = 0) -> dict[str, Any]:
    """Fresh `{"params", "batch_stats"}` of a model; their shapes depend on no image size."""
    images, maps = jnp.zeros((1, 1, 16, 16, 3)), jnp.zeros((1, 1, 16, 16, 1))
    return jax.jit(model.init)(jax.random.key(seed), images[:, 0], images, maps)


def create_train_state(variables, optimizer: optax.GradientTransformation) -> TrainState:
    """A state at step 0 with these variables."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )
