"""Convolution and resizing with PyTorch's geometry: explicit padding, half-pixel centres."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from qmra_jax.network.ops.convolution import convolve

# PyTorch's default for convolutions and linear layers: uniform with variance 1 / (3 fan_in).
torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A convolution with PyTorch's `padding=kernel_size // 2`, which differs from 'SAME'.

    Attributes:
      features: channels out.
      kernel_size: odd; height and width of the kernel `[k, k, c_in, c_out]`.
      stride: of both axes.
      use_bias: whether a bias `[c_out]` is added.
      dtype: of the computation; parameters stay float32.
      kernel_init: the kernel's initialiser.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Callable = torch_init

    @nn.compact
    def __call__(self, x):
        """`[b, h, w, c_in]` -> `[b, ceil(h / stride), ceil(w / stride), c_out]`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype)
        return x


def upsample(x, factor: int):
    """Bilinear enlargement with half-pixel centres (PyTorch's `align_corners=False`).

    Written as sums of shifted copies, which XLA fuses into one loop; `jax.image.resize` is a matrix
    product.

    Args:
      x: `[b, h, w, c]`.
      factor: even.

    Returns:
      `[b, factor h, factor w, c]`.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        pad = [(0, 0)] * x.ndim
        pad[axis] = (1, 1)
        padded = jnp.pad(x, pad, mode="edge")
        before, here, after = (
            jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(3)
        )
        phases = []
        for phase in range(factor):
            offset = (phase + 0.5) / factor - 0.5  # of the sample from its source pixel's centre
            neighbour = before if offset < 0 else after
            phases.append(here * (1 - abs(offset)) + neighbour * abs(offset))
        shape = (*x.shape[:axis], size * factor, *x.shape[axis + 1 :])
        x = jnp.stack(phases, axis=axis + 1).reshape(shape)
    return x
