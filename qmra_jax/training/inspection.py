"""Outputs of the network on a few training triplets, and how sharply it reads the memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from qmra_jax.network import variants
from qmra_jax.network.memory_read import READERS
from qmra_jax.network.model import QMRA
from qmra_jax.training.train_state import TrainState
from qmra_jax.training.train_step import unpack

Arrays = dict[str, jax.Array]
KEY_MODULES = ("query_kv", "memory_kv")  # of a QMA: their first output is the key


def make_inspect(model: QMRA) -> Callable[[TrainState, Any], tuple[Arrays, Arrays]]:
    """Makes a jitted (state, batch) -> (probabilities, read metrics), evaluated as at inference.

    That is, with stored BatchNorm statistics, true memory maps and averaged parameters.

    Returns:
      A function of one local copy of a `TrainState` and a batch of triplets, which returns
        probabilities: foreground probabilities of the query, float32 `[b, h, w]` by output name;
        metrics: float32 scalars, means over all query positions, for each stage N:
          read_entropy_N, entropy of the attention weights of Eq. 6 relative to its maximum (0: one
          memory position is read; 1: all equally), and read_peak_N, the largest weight, in (0, 1].
          Empty for the reader "none".
    """
    read: Any = variants.choose("reader", READERS, model.reader)
    read.keywords.pop("fused", None)  # its kernel does not support values as wide as `attention`'s
    has_read = model.reader.partition(":")[0] != "none"

    @jax.jit
    def inspect(state: TrainState, batch):
        inputs = unpack(batch, model.remembers)
        outputs, captured = model.apply(
            state.variables,
            *(inputs[name] for name in ("query", "memory_images", "memory_maps")),
            capture_intermediates=lambda module, _: module.name in KEY_MODULES,
            mutable=["intermediates"],
        )
        probabilities = {name: jax.nn.softmax(x)[..., 1] for name, x in outputs.items()}
        metrics = {}
        for stage in range(1, model.stages + 1) if has_read else ():
            qma = captured["intermediates"][f"qma{stage}"]
            weights = attention(read, *(qma[name]["__call__"][0][0] for name in KEY_MODULES))
            entropy = jax.scipy.special.entr(weights).sum(axis=-1)
            metrics[f"read_entropy_{stage}"] = entropy.mean() / jnp.log(weights.shape[-1])
            metrics[f"read_peak_{stage}"] = weights.max(axis=-1).mean()
        return probabilities, metrics

    return inspect


def attention(read: Callable, query_key, memory_key) -> jax.Array:
    """The attention weight of each memory position for each query position, for any reader.

    A reader sums values with weights that do not depend on the values. With one-hot values, one
    channel per memory position, the sum is the weights themselves.

    Args:
      read: a reader with its options bound (`qmra_jax.network.memory_read`).
      query_key: `[b, H, W, c_k]`.
      memory_key: `[b t, H, W, c_k]`.

    Returns:
      float32 `[b, H, W, t H W]`, summing to 1 over the last axis.
    """
    b = len(query_key)
    query_key, memory_key = (x.astype(jnp.float32) for x in (query_key, memory_key))
    memory_key = rearrange(memory_key, "(b t) h w c -> b t h w c", b=b)
    t, h, w = memory_key.shape[1:4]
    one_hot = jnp.eye(t * h * w).reshape(t, h, w, -1)
    return read(query_key, memory_key, jnp.broadcast_to(one_hot, (b, *one_hot.shape)))
