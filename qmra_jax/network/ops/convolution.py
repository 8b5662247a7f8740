"""Convolution, in the fastest form for each platform.

On a GPU or TPU this is XLA's convolution. On a CPU, XLA computes convolutions directly, at best at
the speed of its matrix products, and Winograd's algorithm (`winograd.py`) is faster for wide 3x3
ones. The form is chosen when a program is lowered for a platform; parameters are the same, and
results are, to rounding. Only reverse-mode gradients (`jax.grad`) are defined.
`benchmarks/results/training-cpu.md` has the gain of each form and the alternatives tried.
"""

import functools

import jax
import jax.numpy as jnp

from qmra_jax.network.ops import winograd

# Minimum of input and output channels for which Winograd's savings exceed the cost of its sums.
WIDE = 64
# The same for the kernel's gradient, which needs sums of both x and y_bar.
WIDE_GRADIENT = 128
# Minimum of c_in x c_out x pixels of an image for which it saves more time than it takes to
# compile. Independent of the batch size, so that any number of devices computes alike.
MIN_PRODUCTS = 2**23


def convolve(x, kernel, stride: int = 1):
    """A convolution with PyTorch's `padding=k // 2`.

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
        # On a CPU, the product's gradients take 0.6 times the convolution's. On a GPU, XLA (JAX
        # 0.10) aborts when it fuses a product with a strided slice.
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
    """Whether Winograd's algorithm is faster for a convolution with stride 1 on a CPU."""
    *_, c_in, c_out = kernel.shape
    return (
        kernel.shape[0] == 3
        and min(c_in, c_out) >= WIDE
        and x[0].size * c_out >= MIN_PRODUCTS
        and x.dtype == jnp.float32  # the sums need more precision than bfloat16
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
    """`convolve` with a 3x3 kernel of many channels: Winograd's algorithm on a CPU."""
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.convolve, default=direct)


def _forward(x, kernel):
    return wide_convolve(x, kernel), (x, kernel)


def _backward(saved, y_bar):
    return jax.lax.platform_dependent(*saved, y_bar, cpu=winograd_gradients, default=gradients)


def gradients(x, kernel, y_bar):
    """Gradients of x and kernel, given `y_bar`, the gradient of `direct(x, kernel)`."""
    return jax.vjp(direct, x, kernel)[1](y_bar)


def winograd_gradients(x, kernel, y_bar):
    """`gradients` by Winograd's algorithm; x's is a convolution with the flipped kernel."""
    x_bar = winograd.convolve(y_bar, kernel[::-1, ::-1].swapaxes(2, 3))
    if min(kernel.shape[2:]) >= WIDE_GRADIENT:
        return x_bar, winograd.kernel_gradient(x, y_bar)
    (kernel_bar,) = jax.vjp(lambda k: direct(x, k), kernel)[1](y_bar)
    return x_bar, kernel_bar


wide_convolve.defvjp(_forward, _backward)
