"""BatchNorm (Ioffe & Szegedy 2015) with stored statistics, or with the batch's over all devices."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

MODES = ("frozen", "sync")


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + bias, per channel, computed in float32.

    Linen's BatchNorm stores the biased variance; this one follows PyTorch's SyncBatchNorm:
    running <- 0.9 running + 0.1 batch with the unbiased variance of the batch over all devices.

    Attributes:
      stats_axis: mapped axis over which to compute the batch's statistics, which also update the
        running ones; None to use the running ones unchanged.
      dtype: of the output.
      epsilon: as in PyTorch.
      momentum: weight of the batch in the new running statistics, as in PyTorch.
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

    In two passes: E[x^2] - E[x]^2 would lose float32 precision.

    Returns:
      mean `[c]`, variance `[c]`, and the number of values per channel.
    """
    mean = jax.lax.pmean(x.mean(axis=(0, 1, 2)), axis_name)
    var = jax.lax.pmean(jnp.square(x - mean).mean(axis=(0, 1, 2)), axis_name)
    count = x.size // x.shape[-1] * jax.lax.axis_size(axis_name)
    return mean, var, count
