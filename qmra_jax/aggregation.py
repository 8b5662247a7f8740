"""Aggregation (Eq. 7-9): what the query sees and what it read from the memory become one feature.

An aggregator is a small Linen module

    Aggregator(options)(query_value [b, H, W, c], read_out [b, H, W, c]) -> F_a [b, H, W, c_a]

with an entry in `AGGREGATORS`, which makes it a value of `config.model.aggregator`. Its parameters
stand directly in the QMA that uses it (`qma1.fc1`), not one level deeper.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from qmra_jax import variants
from qmra_jax.errors import InputError
from qmra_jax.layers import Conv, torch_init
from qmra_jax.memory_read import READERS


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
        """Two `[b, H, W, c]` -> `[b, H, W, 2 c]`, the query's half first."""
        both = jnp.concatenate([query_value, read_out], axis=-1)
        width = both.shape[-1]
        if not isinstance(self.reduction, int) or not 1 <= self.reduction <= width:
            raise InputError(f"bca reduction {self.reduction!r}: expected 1 to {width}")
        # The weights are few, and a sigmoid is steep: they are float32 whatever dtype is.
        pooled = both.mean(axis=(1, 2), dtype=jnp.float32)  # GAP: [b, 2 c]
        dense = {"dtype": jnp.float32, "kernel_init": torch_init}
        hidden = nn.relu(nn.Dense(width // self.reduction, name="fc1", **dense)(pooled))
        weights = nn.sigmoid(nn.Dense(width, name="fc2", **dense)(hidden))  # w_q, w_m: [b, 2 c]
        return both * weights.astype(both.dtype)[:, None, None, :]


AGGREGATORS = {"bca": BCA}


class KeyValue(nn.Module):
    """Key and value of a feature map: two 1x1 convolutions, no activation."""

    key_dim: int
    value_dim: int
    dtype: Any = jnp.float32

    def setup(self):
        self.key = Conv(self.key_dim, 1, dtype=self.dtype)
        self.value = Conv(self.value_dim, 1, dtype=self.dtype)

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
      dtype: of the computation.
    """

    key_dim: int
    value_dim: int
    reader: str = "dot"
    aggregator: str = "bca"
    dtype: Any = jnp.float32

    def setup(self):
        self.memory_kv = KeyValue(self.key_dim, self.value_dim, self.dtype)
        self.query_kv = KeyValue(self.key_dim, self.value_dim, self.dtype)
        self.read = variants.choose("reader", READERS, self.reader)
        self.aggregate = variants.choose("aggregator", AGGREGATORS, self.aggregator)(
            dtype=self.dtype
        )
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
          F_a `[b, H, W, c_a]`, c_a = 2 c_v with BCA.
        """
        query_key, query_value = self.query_kv(features)
        read_out = self.read(query_key, memory_key, memory_value, valid)
        return self.aggregate(jnp.broadcast_to(query_value, read_out.shape), read_out)
