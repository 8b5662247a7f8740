"""The one place where convolutions are made fast.

On a GPU or TPU each of them is XLA's own, forward and backward. On a CPU XLA's are direct ones, at
best at the speed of its matrix products; there a wide 3x3 convolution is cheaper by Winograd's
algorithm (`winograd.py`). The platform is chosen when a program is lowered for it; parameters are
the same, and so are the numbers, to rounding. Gradients are by reverse mode alone (`jax.grad`).
`benchmarks/results/training-cpu.md` tells what each form gained, and which others were tried.
"""

import functools

import jax
import jax.numpy as jnp

from qmra_jax.network.ops import winograd

# Channels, in and out, from which on Winograd's products save more than its sums cost.
WIDE = 64
# And in the kernel's gradient, whose sums are of both x and y_bar.
WIDE_GRADIENT = 128
# c_in x c_out x pixels of an image from which on it saves more time than it takes to compile. How
# many images there are does not count, so that any number of devices computes them alike.
MIN_PRODUCTS = 2**23


def convolve(x, kernel, stride: int = 1):
    """A convolution padded as PyTorch's `padding=k // 2`.

    Args:
      x: `[b, h, w, c_in]`.
      kernel: `[k, k, c_in, c_out]`, k odd, of x's dtype.
      stride: of both axes.

    Returns:
      `[b, ceil(h / stride), ceil(w / stride), c_out]`.
    """
    if kernel.shape[0] == 1 and stride == 1:
        return x @ kernel[0, 0]
    if kernel.shape[0] == 1:
        # On a CPU the product's gradients take 0.6 of the convolution's time. On a GPU XLA (of JAX
        # 0.10) aborts where it fuses a product with a strided slice.
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=lambda x, kernel: x[:, ::stride, ::stride] @ kernel[0, 0],
            default=functools.partial(direct, stride=stride),
        )
    if stride == 1 and suits_winograd(x, kernel):
        return wide_convolve(x, kernel)
    return direct(x, kernel, stride)


def suits_winograd(x, kernel) -> bool:
    """Whether a convolution with stride 1 is quicker by Winograd's algorithm on a CPU."""
    *_, c_in, c_out = kernel.shape
    return (
        kernel.shape[0] == 3
        and min(c_in, c_out) >= WIDE
        and x[0].size * c_out >= MIN_PRODUCTS
        and x.dtype == jnp.float32  # bfloat16 has no digits to spare for the sums
    )


def direct(x, kernel, stride: int = 1):
    """`convolve` as XLA's convolution."""
    padding = (kernel.shape[0] // 2,) * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def wide_convolve(x, kernel):
    """`convolve` with a 3x3 kernel of many channels: by Winograd's algorithm on a CPU."""
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.convolve, default=direct)


def _forward(x, kernel):
    return wide_convolve(x, kernel), (x, kernel)


def _backward(saved, y_bar):
    return jax.lax.platform_dependent(*saved, y_bar, cpu=winograd_gradients, default=gradients)


def gradients(x, kernel, y_bar):
    """Of x and kernel, where `y_bar` is that of `direct(x, kernel)`."""
    return jax.vjp(direct, x, kernel)[1](y_bar)


def winograd_gradients(x, kernel, y_bar):
    """`gradients` by Winograd's algorithm: x's is a convolution with the kernel turned around."""
    x_bar = winograd.convolve(y_bar, kernel[::-1, ::-1].swapaxes(2, 3))
    if min(kernel.shape[2:]) >= WIDE_GRADIENT:
        return x_bar, winograd.kernel_gradient(x, y_bar)
    (kernel_bar,) = jax.vjp(lambda k: direct(x, k), kernel)[1](y_bar)
    return x_bar, kernel_bar


wide_convolve.defvjp(_forward, _backward)
