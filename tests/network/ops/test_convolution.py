import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.ops import convolution, winograd
from qmra_jax.network.ops.convolution import convolve, direct


def random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def assert_close(actual, expected):
    """Equal to rounding, relative to the largest value."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolution_pads_by_half_the_kernel_on_every_side(size, stride):
    x, kernel = random(1, 8, 10, 2), random(size, size, 2, 4)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    expected = np.einsum("bhwiyx,yxio->bhwo", windows[:, ::stride, ::stride], kernel)
    np.testing.assert_allclose(convolve(x, kernel, stride), expected, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3)])
def test_winograds_convolution_is_the_definitions(height, width):
    x, kernel = random(2, height, width, 5), random(3, 3, 5, 4)
    assert_close(jax.jit(winograd.convolve)(x, kernel), direct(x, kernel))


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(4, 6, 6), (5, 3, convolution.WIDE_GRADIENT)]
)
def test_winograds_gradients_are_the_definitions(height, width, channels):
    x, kernel = random(2, height, width, channels), random(3, 3, channels, channels)
    y_bar = random(2, height, width, channels) + 1
    gradients = jax.jit(convolution.winograd_gradients)(x, kernel, y_bar)
    for ours, expected in zip(gradients, convolution.gradients(x, kernel, y_bar), strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("size", [3, 4])
def test_winograds_kernel_gradient_counts_every_pixel_once(size):
    ones = jnp.ones((1, size, size, 1))
    gradient = jax.jit(winograd.kernel_gradient)(ones, ones)[..., 0, 0]
    inside = np.asarray([size - 1, size, size - 1])
    np.testing.assert_allclose(gradient, inside[:, None] * inside, atol=1e-5)


def gradients(x, kernel, stride=1):
    return jax.grad(lambda *a: jnp.sum(convolve(*a, stride) ** 2), argnums=(0, 1))(x, kernel)


strided_gradients = functools.partial(gradients, stride=2)
BF16 = jnp.bfloat16


@pytest.mark.parametrize(
    ("function", "x", "kernel", "dtype", "on_cpu", "on_gpu"),
    [
        # Wide: Winograd's sixteen products, and one to transform the kernel.
        (convolve, (1, 48, 48, 64), (3, 3, 64, 64), None, (0, 17), (1, 0)),
        (gradients, (1, 48, 48, 64), (3, 3, 64, 64), None, (1, 34), (3, 0)),
        (gradients, (1, 48, 48, 128), (3, 3, 128, 128), None, (0, 51), (3, 0)),
        # Narrow, small images in a large batch, and bfloat16.
        (convolve, (1, 48, 48, 64), (3, 3, 64, 32), None, (1, 0), (1, 0)),
        (convolve, (64, 8, 8, 64), (3, 3, 64, 64), None, (1, 0), (1, 0)),
        (convolve, (1, 48, 48, 64), (3, 3, 64, 64), BF16, (1, 0), (1, 0)),
        # XLA's Triton fusion aborts on the product of a strided slice.
        (strided_gradients, (1, 8, 8, 6), (1, 1, 6, 4), None, (0, 3), (3, 0)),
    ],
)
def test_the_form_depends_on_platform_and_size(function, x, kernel, dtype, on_cpu, on_gpu):
    """Numbers of convolutions and of matrix products in the lowered program."""
    arrays = (jax.ShapeDtypeStruct(shape, dtype or jnp.float32) for shape in (x, kernel))
    traced = jax.jit(function).trace(*arrays)
    for platform, expected in (("cpu", on_cpu), ("cuda", on_gpu)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert (
            text.count("stablehlo.convolution"),
            text.count("stablehlo.dot_general"),
        ) == expected
