"""DINOv2 at a toy size against plain PyTorch."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network import variants
from qmra_jax.network.dinov2 import FEATURES, DINOv2
from qmra_jax.weights.frozen_features import NAME
from tests.support.toy_dinov2 import FROZEN, STATE, TOY


@functools.partial(jax.jit, static_argnames="module")
def apply(given, module=TOY):
    return module.apply({"frozen": FROZEN[NAME]}, given)


def images(*shape):
    return np.random.default_rng(sum(shape)).random((*shape, 3), np.float32)


@pytest.mark.parametrize("grid", [(5, 5), (3, 7), (8, 5), (1, 2)])
def test_tokens_are_pytorch_s_each_of_mean_0_and_variance_1(grid):
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
    from benchmarks import torch_dinov2

    twin = torch_dinov2.DINOv2(width=24, depth=2, heads=2, grid=5)
    twin.load_state_dict({name: torch.from_numpy(x) for name, x in STATE.items()}, strict=True)
    given = images(2, 16 * grid[0], 16 * grid[1])
    expected = twin(torch.from_numpy(given).movedim(-1, 1)).movedim(1, -1)
    found = apply(given)
    assert found.shape == (2, *grid, TOY.width)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(-1), 1, atol=1e-4)


def test_nothing_is_trained_and_no_gradient_passes():
    variables = jax.eval_shape(TOY.init, jax.random.key(0), images(1, 32, 32))
    assert set(variables) == {"frozen"}
    assert {name: x.shape for name, x in variables["frozen"].items()} == TOY.shapes()

    def loss(variables, given):
        return jnp.square(TOY.apply(variables, given) - 1).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))({"frozen": FROZEN[NAME]}, images(1, 32, 48))
    for gradient in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("dtype", "atol"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_16_bits_are_close_to_float32(dtype, atol):
    given = images(1, 48, 64)
    expected = apply(given)
    found = apply(given, TOY.clone(dtype=dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=atol)


def test_wrong_shapes_are_refused():
    for shape in ((1, 40, 32, 3), (1, 32, 32, 4), (32, 32, 3)):
        with pytest.raises(InputError, match=r"expected \[b,h,w,3\] with h and w multiples of 16"):
            TOY.apply({"frozen": FROZEN[NAME]}, np.zeros(shape, np.float32))
    with pytest.raises(InputError, match="width 24: expected a multiple of heads 5"):
        TOY.clone(heads=5).init(jax.random.key(0), images(1, 16, 16))


def test_a_config_names_it():
    full = variants.choose("features", FEATURES, "dinov2_vits14")(dtype="bfloat16")
    assert full == DINOv2(dtype="bfloat16")
    assert sum(math.prod(shape) for shape in full.shapes().values()) == 22_056_192
    toy = "dinov2_vits14:width=24,depth=2,heads=2,grid=5"
    assert variants.choose("features", FEATURES, toy)(dtype=jnp.float32) == TOY
    assert variants.choose("features", FEATURES, "none")(dtype=jnp.float32) is None
    with pytest.raises(InputError, match="features 'dino': expected one of"):
        variants.choose("features", FEATURES, "dino")
