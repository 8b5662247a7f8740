"""What a few triplets of a batch show: the outputs, and how sharply the memory is read."""

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
KEPT = ("query_kv", "memory_kv")  # the modules of a QMA that make its keys


def make_inspect(model: QMRA) -> Callable[[TrainState, Any], tuple[Arrays, Arrays]]:
    """(state, batch) -> foreground probabilities of the queries, and figures of the memory reads.

    All is as evaluation would see it: by stored statistics, true maps and the average.

    Returns:
      A jitted function of one local copy of a `TrainState` and triplets. It gives
        probabilities: float32 `[b, h, w]` by the outputs' names;
        figures: float32 scalars, means over the places of all queries, for stage 1 and stage 2:
          read_entropy_1 and _2, the entropy of the memory read's weights (Eq. 6) as a share of its
          maximum (0: one memory place is read; 1: all alike), and read_peak_1 and _2, the largest
          weight, in (0, 1]. Empty with the reader "none", which has no weights.
    """
    read = variants.choose("reader", READERS, model.reader)
    read.keywords.pop("fused", None)  # its kernel takes no values as wide as `attention`'s
    has_read = model.reader.partition(":")[0] != "none"
    capture: dict[str, Any] = {
        "capture_intermediates": lambda module, _: module.name in KEPT,
        "mutable": ["intermediates"],
    }

    @jax.jit
    def inspect(state: TrainState, batch):
        inputs = unpack(batch, model.remembers)
        args = inputs["query"], inputs["memory_images"], inputs["memory_maps"]
        if has_read:
            outputs, kept = model.apply(state.variables, *args, **capture)
        else:
            outputs = model.apply(state.variables, *args)
        probabilities = {name: jax.nn.softmax(x)[..., 1] for name, x in outputs.items()}
        figures = {}
        for stage in range(1, model.stages + 1) if has_read else ():
            keys = (kept["intermediates"][f"qma{stage}"][name]["__call__"][0][0] for name in KEPT)
            weights = attention(read, *keys)
            entropy = jax.scipy.special.entr(weights).sum(axis=-1)
            figures[f"read_entropy_{stage}"] = entropy.mean() / jnp.log(weights.shape[-1])
            figures[f"read_peak_{stage}"] = weights.max(axis=-1).mean()
        return probabilities, figures

    return inspect


def attention(read: Callable, query_key, memory_key) -> jax.Array:
    """What each memory place counts in the read-out of each query place.

    A reader gathers values with weights that do not depend on them: where each memory place has a
    channel of its own, 1 there and 0 elsewhere, the read-out is these weights, whatever the reader.

    Args:
      read: a reader with its options filled in (`qmra_jax.network.memory_read`).
      query_key: `[b, H, W, c_k]`.
      memory_key: `[b t, H, W, c_k]`.

    Returns:
      float32 `[b, H, W, t H W]`, which sum to 1 over the last axis.
    """
    b = len(query_key)
    query_key, memory_key = (x.astype(jnp.float32) for x in (query_key, memory_key))
    memory_key = rearrange(memory_key, "(b t) h w c -> b t h w c", b=b)
    frame = memory_key.shape[1:4]
    values = jnp.eye(frame[0] * frame[1] * frame[2]).reshape(*frame, -1)
    return read(query_key, memory_key, jnp.broadcast_to(values, (b, *values.shape)))
