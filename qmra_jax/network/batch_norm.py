"""BatchNorm (Ioffe & Szegedy 2015) by stored statistics, or by the batch's over all devices."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

MODES = ("frozen", "sync")


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + bias, per channel, computed in float32.

    Linen's own keeps the batch's biased variance; this one keeps what PyTorch's SyncBatchNorm
    keeps, so that weights and practice carry over: running <- 0.9 running + 0.1 batch, the batch's
    variance unbiased (n / (n - 1) times the one that it normalises by), n counted over all devices.

    Attributes:
      stats_axis: the mapped axis over which a batch's statistics are taken and the running ones
        renewed; None: by the running ones, which stay as they are.
      dtype: of what comes out.
      epsilon: PyTorch's.
      momentum: share of the batch in the new running statistics; PyTorch's.
    """

    stats_axis: str | None = None
    dtype: Any = jnp.float32
    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(self, x):
        """`[b, h, w, c]` -> the same shape."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        x = x.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if self.stats_axis is not None and not self.is_initializing():
            mean, var, count = batch_statistics(x, self.stats_axis)
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (unbiased - running_var.value)
        x = (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        return x.astype(self.dtype)


def batch_statistics(x, axis_name: str):
    """Mean and biased variance per channel, over all devices' `x [b, h, w, c]`.

    In two passes: the difference of two means of squares would lose float32's digits.

    Returns:
      mean `[c]`, variance `[c]`, and how many numbers each is of.
    """
    mean = jax.lax.pmean(x.mean(axis=(0, 1, 2)), axis_name)
    var = jax.lax.pmean(jnp.square(x - mean).mean(axis=(0, 1, 2)), axis_name)
    count = x.size // x.shape[-1] * jax.lax.axis_size(axis_name)
    return mean, var, count
