"""Aggregation (Eq. 7-9): what the query sees and what it read from the memory become one feature.

An aggregator is a small Linen module

    Aggregator(options)(query_value [b, H, W, c], read_out [b, H, W, c]) -> F_a [b, H, W, c_a]

with an entry in `AGGREGATORS`, which makes it a value of `config.model.aggregator`. Its parameters
stand directly in the QMA that uses it (`qma1.fc1`), not one level deeper.
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
    """Key and value of a feature map: two convolutions, no activation.

    Attributes:
      key_dim: c_k.
      value_dim: c_v.
      kernel_size: of both convolutions: 1, or STM's 3.
      dtype: of the computation.
    """

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
    """QMA (Figure 3): Memory Read, then aggregation.

    Attributes:
      key_dim: c_k.
      value_dim: c_v.
      reader: a name of `READERS`, with options.
      aggregator: a name of `AGGREGATORS`, with options.
      kv_kernel: size of the kernels that make keys and values.
      dtype: of the computation.
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
        """f_m's r4 `[b, H, W, c]` -> key `[b, H, W, c_k]` and value `[b, H, W, c_v]` to store."""
        return self.memory_kv(features)

    def __call__(self, features, memory_key, memory_value, valid=None):
        """Aggregates.

        Args:
          features: the query's r4 `[b, H, W, c]`; b may be 1 beside several objects.
          memory_key: `[b, t, H, W, c_k]`.
          memory_value: `[b, t, H, W, c_v]`.
          valid: bool `[b, t]`, or None for all.

        Returns:
          F_a `[b, H, W, c_a]`; c_a is 2 c_v with every aggregator here.
        """
        query_key, query_value = self.query_kv(features)
        read_out = self.read(query_key, memory_key, memory_value, valid)  # Eq. 6: V_a^m
        return self.aggregate(jnp.broadcast_to(query_value, read_out.shape), read_out)


class BCA(nn.Module):
    """Bidirectional Channel Aggregation (Eq. 7-9, Figure 3).

    Query and read-out weigh each other's channels, from what both look like on average.

    Attributes:
      reduction: of the bottleneck between the two linear layers. The paper gives none; 16 is ours.
      dtype: of the computation.
    """

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, query_value, read_out):
        """V^q and V_a^m `[b, H, W, c]` -> F_a `[b, H, W, 2 c]`, the query's half first."""
        both = jnp.concatenate([query_value, read_out], axis=-1)
        weights = channel_weights(both, both.shape[-1], self.reduction)
        w_q, w_m = jnp.split(weights, 2, axis=-1)  # Eq. 7, 8
        return jnp.concatenate([w_q * query_value, w_m * read_out], axis=-1)  # Eq. 9


def channel_weights(both, channels: int, reduction: int):
    """f_mq and f_qm of Eq. 7-8: average pooling, two linear layers with a bottleneck, a sigmoid.

    The weights are few, and a sigmoid is steep: they are computed in float32.

    Args:
      both: V^q and V_a^m side by side, `[b, H, W, c]`.
      channels: how many are weighed.
      reduction: of the bottleneck.

    Returns:
      `[b, 1, 1, channels]` in (0, 1), of `both`'s dtype.
    """
    dense = functools.partial(nn.Dense, dtype=jnp.float32, kernel_init=torch_init)
    z = both.mean(axis=(1, 2), dtype=jnp.float32)  # GAP
    hidden = nn.relu(dense(_bottleneck("bca", both, reduction), name="fc1")(z))
    weights = nn.sigmoid(dense(channels, name="fc2")(hidden))
    return weights.astype(both.dtype)[:, None, None, :]


def _bottleneck(name: str, both, reduction: int) -> int:
    """Its channels; an `InputError` if the reduction leaves none."""
    width = both.shape[-1]
    if not isinstance(reduction, int) or not 1 <= reduction <= width:
        raise InputError(f"{name} reduction {reduction!r}: expected 1 to {width}")
    return width // reduction


# ------------------------------------------------------------------ variants


class QueryBCA(BCA):
    """BCA one way: the query's channels are weighed, the read-out stays as it is."""

    @nn.compact
    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        both = jnp.concatenate([query_value, read_out], axis=-1)
        w_q = channel_weights(both, query_value.shape[-1], self.reduction)
        return jnp.concatenate([w_q * query_value, read_out], axis=-1)


class MemoryBCA(BCA):
    """BCA one way: the read-out's channels are weighed, the query stays as it is."""

    @nn.compact
    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        both = jnp.concatenate([query_value, read_out], axis=-1)
        w_m = channel_weights(both, read_out.shape[-1], self.reduction)
        return jnp.concatenate([query_value, w_m * read_out], axis=-1)


class Concatenation(nn.Module):
    """No aggregation (Table 3's "w/o BCA"; STM): query and read-out side by side.

    Attributes:
      dtype: of the computation, of which there is none.
    """

    dtype: Any = jnp.float32

    def __call__(self, query_value, read_out):
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        return jnp.concatenate([query_value, read_out], axis=-1)


class Spatial(nn.Module):
    """Places are weighed in place of channels: as BCA, without the average over the places.

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
        width = _bottleneck("spatial", both, self.reduction)
        hidden = nn.relu(Conv(width, 1, dtype=self.dtype, name="conv1")(both))
        weights = nn.sigmoid(Conv(2, 3, dtype=self.dtype, name="conv2")(hidden))
        w_q, w_m = jnp.split(weights, 2, axis=-1)  # [b, H, W, 1] each
        return jnp.concatenate([w_q * query_value, w_m * read_out], axis=-1)


AGGREGATORS = {
    "bca": BCA,
    "query_only": QueryBCA,
    "memory_only": MemoryBCA,
    "spatial": Spatial,
    "none": Concatenation,
}
