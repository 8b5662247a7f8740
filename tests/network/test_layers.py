import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.layers import Conv, upsample


def random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_is_half_pixel_bilinear(factor):
    x = random(2, 5, 7, 3)
    expected = jax.image.resize(x, (2, 5 * factor, 7 * factor, 3), "linear")
    np.testing.assert_allclose(upsample(x, factor), expected, atol=1e-6)


def test_parameters_are_float32_when_computing_in_bfloat16():
    layer = Conv(4, 1, dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), random(1, 2, 2, 3))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert layer.apply(variables, random(1, 2, 2, 3)).dtype == jnp.bfloat16
