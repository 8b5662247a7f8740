"""Merging of objects, which are predicted one by one, into one label map.

A merge is a pure function

    merge(logits, alive) -> probabilities

    logits         float32 [n, h, w]: foreground minus background of each object
    alive          bool [n]: which objects exist; the padding of a bucket gets probability 0
    probabilities  float32 [n + 1, h, w], background first, summing to 1

with an entry in `MERGES`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange


def softmax_merge(logits, alive):
    """Softmax over [0, l_1, ..., l_n]."""
    logits = jnp.where(rearrange(alive, "n -> n 1 1"), logits, -jnp.inf)
    return jax.nn.softmax(jnp.pad(logits, ((1, 0), (0, 0), (0, 0))), axis=0)


def soft_aggregation(logits, alive):
    """STM's merge (Oh et al. 2019, Eq. 4): p_0 = prod(1 - p_n), then softmax of all log-odds."""
    alive = rearrange(alive, "n -> n 1 1")
    p = jnp.where(alive, jax.nn.sigmoid(logits), 0.0)
    p = jnp.concatenate([jnp.prod(1 - p, axis=0, keepdims=True), p])
    p = jnp.clip(p, 1e-7, 1 - 1e-7)
    odds = jnp.log(p / (1 - p))
    alive = jnp.pad(alive, ((1, 0), (0, 0), (0, 0)), constant_values=True)
    return jax.nn.softmax(jnp.where(alive, odds, -jnp.inf), axis=0)


MERGES: dict[str, Callable] = {"softmax": softmax_merge, "soft_aggregation": soft_aggregation}
