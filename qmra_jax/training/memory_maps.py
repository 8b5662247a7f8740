"""Box maps of the training memory: from the true boxes, or predicted as at inference.

At inference only the first frame's box is given; later memory frames keep the box map that stage 1
predicted. The paper trains on true boxes throughout. Here the second memory frame of a triplet may
carry the map that the model predicts for it from the first (`QMRA.with_predicted_maps`).
"""

from typing import Any

import jax
import jax.numpy as jnp

MODES = ("truth", "predicted", "mixed")


def draw_predicted(config: Any, step, examples):
    """Selects the examples of a batch that train on a predicted map.

    The draw depends on the seed, the step and the example's number in the global batch alone, so
    it is the same for any number of devices.

    Args:
      config: the run's config: seed, memory_maps, predicted_share.
      step: int32 scalar, number of steps done.
      examples: int32 `[b]`, numbers in the global batch.

    Returns:
      bool `[b]`, or None if no example ever does.
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
