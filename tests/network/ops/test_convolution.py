import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.ops.convolution import convolve


def random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolution_pads_by_half_the_kernel_on_every_side(size, stride):
    x, kernel = random(1, 8, 10, 2), random(size, size, 2, 4)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    expected = np.einsum("bhwiyx,yxio->bhwo", windows[:, ::stride, ::stride], kernel)
    np.testing.assert_allclose(convolve(x, kernel, stride), expected, atol=1e-4)


def gradients(x, kernel):
    return jax.grad(lambda *a: jnp.sum(convolve(*a, 2) ** 2), argnums=(0, 1))(x, kernel)


@pytest.mark.parametrize(("platform", "counts"), [("cpu", (0, 3)), ("cuda", (3, 0))])
def test_strided_1x1_is_a_product_on_a_cpu_alone(platform, counts):
    """XLA's Triton fusion aborts on the product of a strided slice."""
    arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(1, 8, 8, 6), (1, 1, 6, 4)])
    text = jax.jit(gradients).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    names = "stablehlo.convolution", "stablehlo.dot_general"
    assert tuple(map(text.count, names)) == counts
