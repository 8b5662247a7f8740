"""Which box maps training's memory holds: the true ones, or those that inference would hold.

At inference only the first frame's box is given; a later memory frame keeps stage 1's own box map.
The paper trains on true boxes throughout. Here the second memory frame of a triplet may carry what
the model predicts for it from the first (`QMRA.with_predicted_maps`).
"""

from typing import Any

import jax
import jax.numpy as jnp

MODES = ("truth", "predicted", "mixed")


def draw_predicted(config: Any, step, examples):
    """Which examples of a batch get a predicted map.

    What an example draws is a function of the seed, the step and its number in the batch of all
    devices, so that any number of devices draws the same.

    Args:
      config: of the run: seed, memory_maps, predicted_share.
      step: int32 scalar: steps done.
      examples: int32 `[b]`: their numbers in the global batch.

    Returns:
      bool `[b]`, or None where none ever does.
    """
    if config.memory_maps == "truth":
        return None
    if config.memory_maps == "predicted":
        return jnp.ones(examples.shape, bool)
    starts, shares = (jnp.asarray(x) for x in zip(*config.predicted_share, strict=True))
    share = shares[jnp.searchsorted(starts, step, side="right") - 1]
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    draws = jax.vmap(lambda number: jax.random.uniform(jax.random.fold_in(key, number)))(examples)
    return draws < share
