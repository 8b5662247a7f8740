"""DINOv2 at a toy size against plain PyTorch."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network import variants
from qmra_jax.network.dinov2 import FEATURES, DINOv2
from qmra_jax.weights.frozen_features import NAME
from tests.support.toy_dinov2 import FROZEN, STATE, TOY, TOY_SPEC


@functools.partial(jax.jit, static_argnames="module")
def apply(batch, module=TOY):
    return module.apply({"frozen": FROZEN[NAME]}, batch)


def images(*shape):
    return np.random.default_rng(sum(shape)).random((*shape, 3), np.float32)


@pytest.mark.parametrize("grid", [(5, 5), (3, 7), (8, 5), (1, 2)])
def test_tokens_are_pytorchs_normalised_to_mean_0_and_variance_1(grid):
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
    from benchmarks import torch_dinov2

    twin = torch_dinov2.DINOv2(width=24, depth=2, heads=2, grid=5)
    twin.load_state_dict({name: torch.from_numpy(x) for name, x in STATE.items()}, strict=True)
    batch = images(2, 16 * grid[0], 16 * grid[1])
    expected = twin(torch.from_numpy(batch).movedim(-1, 1)).movedim(1, -1)
    tokens = apply(batch)
    assert tokens.shape == (2, *grid, TOY.width)
    np.testing.assert_allclose(tokens, expected, atol=2e-4)
    np.testing.assert_allclose(tokens.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(tokens.var(-1), 1, atol=1e-4)


def test_all_arrays_are_frozen_and_gradients_are_zero():
    variables = jax.eval_shape(TOY.init, jax.random.key(0), images(1, 32, 32))
    assert set(variables) == {"frozen"}
    assert {name: x.shape for name, x in variables["frozen"].items()} == TOY.shapes()

    def loss(variables, batch):
        return jnp.square(TOY.apply(variables, batch) - 1).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))({"frozen": FROZEN[NAME]}, images(1, 32, 48))
    for gradient in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("dtype", "atol"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_16_bits_are_close_to_float32(dtype, atol):
    batch = images(1, 48, 64)
    tokens = apply(batch, TOY.clone(dtype=dtype))
    assert tokens.dtype == dtype
    np.testing.assert_allclose(tokens.astype(np.float32), apply(batch), atol=atol)


def test_features_are_chosen_by_a_config_string():
    full = variants.choose("features", FEATURES, "dinov2_vits14")(dtype="bfloat16")
    assert full == DINOv2(dtype="bfloat16")
    assert sum(math.prod(shape) for shape in full.shapes().values()) == 22_056_192
    assert variants.choose("features", FEATURES, TOY_SPEC)(dtype=jnp.float32) == TOY
    assert variants.choose("features", FEATURES, "none")(dtype=jnp.float32) is None
