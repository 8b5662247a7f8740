"""The ResNet stem's max-pool, with a fast gradient on CPUs."""

import jax
import jax.numpy as jnp
from flax import linen as nn

# Offsets in a window; the first of equal values wins.
PLACES = tuple((i, j) for i in range(3) for j in range(3))


@jax.custom_vjp
def max_pool(x):
    """3x3 maximum with stride 2 and PyTorch's `padding=1`.

    On a CPU, XLA's gradient is a sequential scatter, a tenth of a train step; there it is computed
    as sums over the window's nine offsets. The first of equal values in a window gets the
    gradient, as in PyTorch.

    Args:
      x: `[b, h, w, c]`.

    Returns:
      `[b, ceil(h / 2), ceil(w / 2), c]`.
    """
    return _max_pool(x)


def _max_pool(x):
    return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))


def _forward(x):
    return max_pool(x), x


def _backward(x, y_bar):
    return (jax.lax.platform_dependent(x, y_bar, cpu=gradient_by_places, default=gradient),)


def gradient(x, y_bar):
    """The gradient of x, given `y_bar`, that of `max_pool(x)`: XLA's."""
    (x_bar,) = jax.vjp(_max_pool, x)[1](y_bar)
    return x_bar


def gradient_by_places(x, y_bar):
    """`gradient` as sums: each pixel lies in one, two or four windows, depending on parity."""
    b, height, width, c = x.shape
    rows, columns = y_bar.shape[1:3]
    margins = ((0, 0), (1, 2 * rows - height), (1, 2 * columns - width), (0, 0))
    padded = jnp.pad(x, margins, constant_values=-jnp.inf)
    best = jnp.full_like(y_bar, -jnp.inf)
    winner = jnp.zeros(y_bar.shape, jnp.int8)
    for place, (i, j) in enumerate(PLACES):
        stop = (b, i + 2 * rows - 1, j + 2 * columns - 1, c)
        value = jax.lax.slice(padded, (0, i, j, 0), stop, (1, 2, 2, 1))
        winner = jnp.where(value > best, jnp.int8(place), winner)
        best = jnp.maximum(best, value)
    winner = jax.lax.optimization_barrier(winner)  # computed once, not again for every place
    shares = [jnp.where(winner == place, y_bar, 0) for place in range(len(PLACES))]
    # Row 2 r of x is the middle row of window r; row 2 r + 1 is the last row of window r and the
    # first of window r + 1. Columns likewise.
    upper, middle, lower = shares[:3], shares[3:6], shares[6:]
    odd_row = [last + _next(first, axis=1) for first, last in zip(upper, lower, strict=True)]
    planes = [
        jnp.stack([centre, right + _next(left, axis=2)], axis=3)
        for left, centre, right in (middle, odd_row)
    ]
    x_bar = jnp.stack(planes, axis=2).reshape(b, 2 * rows, 2 * columns, c)
    return x_bar[:, :height, :width]


def _next(share, axis: int):
    """The next window's share along `axis`; 0 beyond the last window."""
    kept = jax.lax.slice_in_dim(share, 1, None, axis=axis)
    return jnp.pad(kept, [(0, int(k == axis)) for k in range(share.ndim)])


max_pool.defvjp(_forward, _backward)
