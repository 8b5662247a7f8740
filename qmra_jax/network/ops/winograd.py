"""3x3 convolutions with fewer multiplications: Winograd's F(2x2, 3x3) (Lavin & Gray 2016).

A 2x2 output tile takes 16 products instead of the definition's 36. Written as 16 matrix products
over all tiles, between sums and differences of shifted copies:

    y = A^T [ (G k G^T) * (B^T d B) ] A     d: a 4x4 tile of the padded input, k: the 3x3 kernel

In float32 the result is that of the definition to rounding (1e-6 of the largest output).

The cost is compile time: XLA compiles each of the 16 sums on every side as a loop of its own. The
kernel's sums, which are small, are therefore written as one product.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np

B_T = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
A_T = ((1, 1, 1, 0), (0, 1, -1, -1))
G_ON_BOTH_SIDES = np.kron(G, G).astype(np.float32)  # of a 3x3 array as a column


def convolve(x, kernel):
    """A 3x3 convolution, padded by 1 all around.

    Args:
      x: `[b, h, w, c_in]`.
      kernel: `[3, 3, c_in, c_out]`.

    Returns:
      `[b, h, w, c_out]`.
    """
    c_in, c_out = kernel.shape[2:]
    weights = (G_ON_BOTH_SIDES @ kernel.reshape(9, -1)).reshape(4, 4, c_in, c_out)
    products = [
        [tiles @ weights[i, j] for j, tiles in enumerate(row)]
        for i, row in enumerate(_input_tiles(x))
    ]
    planes = jnp.stack([jnp.stack(row, axis=3) for row in _sandwich(A_T, products)], axis=2)
    b, height, _, width, _, c = planes.shape
    return planes.reshape(b, 2 * height, 2 * width, c)[:, : x.shape[1], : x.shape[2]]


def kernel_gradient(x, y_bar):
    """The gradient of the kernel.

    Args:
      x: `[b, h, w, c_in]`.
      y_bar: the gradient of `convolve(x, kernel)`, `[b, h, w, c_out]`.

    Returns:
      `[3, 3, c_in, c_out]`.
    """
    y_bar = _pad_to_even(y_bar)
    output = [[_every_other(y_bar, i, j) for j in range(2)] for i in range(2)]
    products = [
        _outer_product(*factors)
        for rows in zip(_input_tiles(x), _sandwich(_transposed(A_T), output), strict=True)
        for factors in zip(*rows, strict=True)
    ]
    gradient = G_ON_BOTH_SIDES.T @ jnp.stack(products).reshape(16, -1)
    return gradient.reshape(3, 3, x.shape[-1], y_bar.shape[-1])


def _outer_product(a, b):
    """`[..., i]`, `[..., o]` -> `[i, o]`, without the transposed copies that an einsum makes."""
    a, b = (x.reshape(-1, x.shape[-1]) for x in (a, b))
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def _input_tiles(x):
    """B^T d B: 4 x 4 arrays `[b, ceil(h / 2), ceil(w / 2), c]`, one value per tile."""
    padded = jnp.pad(_pad_to_even(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [[_every_other(padded, i, j, margin=2) for j in range(4)] for i in range(4)]
    return _sandwich(B_T, shifted)


def _pad_to_even(x):
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def _every_other(x, row: int, column: int, margin: int = 0):
    """Every other pixel from (row, column) on, as many as in `x` without its margin."""
    b, height, width, c = x.shape
    stop = (b, height - margin - 1 + row, width - margin - 1 + column, c)
    return jax.lax.slice(x, (0, row, column, 0), stop, (1, 2, 2, 1))


def _sandwich(matrix, arrays):
    """`matrix @ arrays @ matrix^T` of a square of arrays."""
    columns = [_apply(matrix, column) for column in _transposed(arrays)]
    return [_apply(matrix, row) for row in _transposed(columns)]


def _apply(matrix, arrays):
    """`matrix @ arrays`: a sum of multiples of the arrays for each row."""
    return [
        functools.reduce(
            operator.add, [f * x if f != 1 else x for f, x in zip(row, arrays, strict=True) if f]
        )
        for row in matrix
    ]


def _transposed(rows):
    return list(zip(*rows, strict=True))
