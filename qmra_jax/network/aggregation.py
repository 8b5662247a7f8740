"""Query-Memory Aggregation (Figure 3): Memory Read (Eq. 6), then aggregation (Eq. 7-9).

An aggregator is a small Linen module

    Aggregator(options)(query_value [b, H, W, c], read_out [b, H, W, c]) -> F_a [b, H, W, c_a]

with an entry in `AGGREGATORS`, which makes it a value of `config.model.aggregator`. It shares the
parameter scope of the QMA that uses it: `qma1.fc1`, not `qma1.aggregate.fc1`.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from qmra_jax.errors import InputError
from qmra_jax.network import variants
from qmra_jax.network.layers import Conv, torch_init
from qmra_jax.network.memory_read import READERS


class KeyValue(nn.Module):
    """Two convolutions without activation, 1x1 or STM's 3x3, for a feature map's key and value."""

    key_dim: int
    value_dim: int
    kernel_size: int = 1
    dtype: Any = jnp.float32

    def setup(self):
        self.key = Conv(self.key_dim, self.kernel_size, dtype=self.dtype)
        self.value = Conv(self.value_dim, self.kernel_size, dtype=self.dtype)

    def __call__(self, features):
        """`[b, H, W, c]` -> key `[b, H, W, c_k]`, value `[b, H, W, c_v]`."""
        return self.key(features), self.value(features)


class QueryMemoryAggregation(nn.Module):
    """QMA (Figure 3).

    Attributes:
      key_dim: c_k.
      value_dim: c_v.
      reader: a name of `READERS`, with options.
      aggregator: a name of `AGGREGATORS`, with options.
      kv_kernel: kernel size of `KeyValue`.
    """

    key_dim: int
    value_dim: int
    reader: str = "dot"
    aggregator: str = "bca"
    kv_kernel: int = 1
    dtype: Any = jnp.float32

    def setup(self):
        self.memory_kv = KeyValue(self.key_dim, self.value_dim, self.kv_kernel, self.dtype)
        self.query_kv = KeyValue(self.key_dim, self.value_dim, self.kv_kernel, self.dtype)
        self.read = variants.choose("reader", READERS, self.reader)
        aggregator = variants.choose("aggregator", AGGREGATORS, self.aggregator)
        self.aggregate = aggregator(dtype=self.dtype)
        nn.share_scope(self, self.aggregate)

    def memorize(self, features):
        """f_m's r4 `[b, H, W, c]` -> K^m `[b, H, W, c_k]`, V^m `[b, H, W, c_v]`."""
        return self.memory_kv(features)

    def __call__(self, features, memory_key, memory_value, valid=None):
        """Reads the memory and aggregates what was read with the query.

        Args:
          features: the query's r4 `[b or 1, H, W, c]`.
          memory_key: K^m `[b, t, H, W, c_k]`.
          memory_value: V^m `[b, t, H, W, c_v]`.
          valid: bool `[b, t]`, which memory frames to read; None for all.

        Returns:
          F_a `[b, H, W, c_a]`; c_a is 2 c_v for every aggregator here.
        """
        query_key, query_value = self.query_kv(features)  # K^q, V^q
        read_out = self.read(query_key, memory_key, memory_value, valid)  # Eq. 6: V_a^m
        return self.aggregate(jnp.broadcast_to(query_value, read_out.shape), read_out)  # Eq. 7-9


class BCA(nn.Module):
    """Bidirectional Channel Aggregation (Eq. 7-9, Figure 3): query and memory weight each other.

    Attributes:
      reduction: of the bottleneck between the two linear layers; the paper gives none, 16 is ours.
      dtype: of the computation; the channel weights are computed in float32.
    """

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, query_value, read_out):
        """V^q and V_a^m `[b, H, W, c]` -> F_a `[b, H, W, 2 c]`, the query's half first."""
        weights = self.channel_weights(query_value, read_out, 2 * query_value.shape[-1])
        w_q, w_m = jnp.split(weights, 2, axis=-1)  # Eq. 7, 8
        return jnp.concatenate([w_q * query_value, w_m * read_out], axis=-1)  # Eq. 9

    def channel_weights(self, query_value, read_out, channels: int):
        """f_mq and f_qm of Eq. 7-8: `[b, 1, 1, channels]` in (0, 1), from both inputs' averages."""
        both = jnp.concatenate([query_value, read_out], axis=-1)
        linear = functools.partial(nn.Dense, dtype=jnp.float32, kernel_init=torch_init)
        z = both.mean(axis=(1, 2), dtype=jnp.float32)  # GAP
        hidden = nn.relu(linear(bottleneck_width(both, self.reduction), name="fc1")(z))
        weights = nn.sigmoid(linear(channels, name="fc2")(hidden))
        return weights.astype(both.dtype)[:, None, None, :]


def bottleneck_width(both, reduction: int) -> int:
    """Channels of a bottleneck behind `both [b, H, W, c]`: c // reduction.

    Raises:
      InputError: if the reduction is not an integer from 1 to c.
    """
    width = both.shape[-1]
    if not isinstance(reduction, int) or not 1 <= reduction <= width:
        raise InputError(f"aggregator reduction {reduction!r}: expected 1 to {width}")
    return width // reduction


# ------------------------------------------------------------------ variants


class QueryBCA(BCA):
    """One-way BCA: the query's channels are weighted, the read-out stays as it is."""

    @nn.compact
    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        w_q = self.channel_weights(query_value, read_out, query_value.shape[-1])
        return jnp.concatenate([w_q * query_value, read_out], axis=-1)


class MemoryBCA(BCA):
    """One-way BCA: the read-out's channels are weighted, the query stays as it is."""

    @nn.compact
    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        w_m = self.channel_weights(query_value, read_out, read_out.shape[-1])
        return jnp.concatenate([query_value, w_m * read_out], axis=-1)


class Spatial(nn.Module):
    """Weights places instead of channels: BCA without the average over places.

    Attributes:
      reduction: of the bottleneck between the 1x1 and the 3x3 convolution.
      dtype: of the computation.
    """

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        both = jnp.concatenate([query_value, read_out], axis=-1)
        width = bottleneck_width(both, self.reduction)
        hidden = nn.relu(Conv(width, 1, dtype=self.dtype, name="conv1")(both))
        weights = nn.sigmoid(Conv(2, 3, dtype=self.dtype, name="conv2")(hidden))
        w_q, w_m = jnp.split(weights, 2, axis=-1)  # [b, H, W, 1] each
        return jnp.concatenate([w_q * query_value, w_m * read_out], axis=-1)


class Concatenation(nn.Module):
    """No aggregation (Table 3's "w/o BCA"; STM): query and read-out side by side."""

    dtype: Any = jnp.float32  # every aggregator has one

    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        return jnp.concatenate([query_value, read_out], axis=-1)


AGGREGATORS = {
    "bca": BCA,
    "query_only": QueryBCA,
    "memory_only": MemoryBCA,
    "spatial": Spatial,
    "none": Concatenation,
}
