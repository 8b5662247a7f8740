import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.layers import Conv, convolve, upsample


def random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_is_half_pixel_bilinear(factor):
    x = random(2, 5, 7, 3)
    expected = jax.image.resize(x, (2, 5 * factor, 7 * factor, 3), "linear")
    np.testing.assert_allclose(upsample(x, factor), expected, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolution_pads_by_half_the_kernel_on_every_side(size, stride):
    x, kernel = random(1, 8, 10, 2), random(size, size, 2, 4)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    expected = np.einsum("bhwiyx,yxio->bhwo", windows[:, ::stride, ::stride], kernel)
    np.testing.assert_allclose(convolve(x, kernel, stride), expected, atol=1e-4)


def test_parameters_stay_float32_when_computing_in_bfloat16():
    layer = Conv(4, 1, dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), random(1, 2, 2, 3))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert layer.apply(variables, random(1, 2, 2, 3)).dtype == jnp.bfloat16
