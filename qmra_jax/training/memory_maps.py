"""Which box maps training's memory holds: the true ones, or those that inference would hold.

At inference only the first frame's box is given; a later memory frame keeps stage 1's own box map.
The paper trains on true boxes throughout. Here the second memory frame of a triplet may carry what
the model predicts for it from the first (`QMRA.with_predicted_maps`).
"""

from typing import Any

import jax
import jax.numpy as jnp

from qmra_jax.errors import InputError

MODES = ("truth", "predicted", "mixed")


def check_memory_maps(config: Any) -> None:
    """Raises `InputError` unless memory_maps and predicted_share can be meant."""
    if config.memory_maps not in MODES:
        raise InputError(f"memory_maps {config.memory_maps!r}: expected one of {', '.join(MODES)}")
    try:
        starts = [int(start) for start, _ in config.predicted_share]
        good = all(0 <= share <= 1 for _, share in config.predicted_share)
    except (TypeError, ValueError):
        starts, good = [], False
    if not good or starts[:1] != [0] or starts != sorted(set(starts)):
        raise InputError(
            f"predicted_share {config.predicted_share}: expected pairs (from step, share from 0 to"
            " 1), the first from step 0, such as ((0, 0.0), (1000, 0.5))"
        )


def draw_predicted(config: Any, step, examples):
    """Which examples of a batch get a predicted map.

    What an example draws is a function of the seed, the step and its number in the batch of all
    devices, so that any number of devices draws the same.

    Args:
      config: with seed, memory_maps and predicted_share, once `check_memory_maps` has passed it.
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
