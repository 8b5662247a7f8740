"""DINOv2 at a toy size against plain NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network import variants
from qmra_jax.network.dinov2 import FEATURES, DINOv2, bicubic_matrix, resize_positions
from qmra_jax.weights.frozen_features import NAME
from tests.support.toy_dinov2 import FROZEN, STATE, TOY

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
ERF = np.vectorize(math.erf)


@functools.partial(jax.jit, static_argnames=("module", "method"))
def apply(given, module=TOY, method=None):
    return module.apply({"frozen": FROZEN[NAME]}, given, method=method)


def reference(state, images, positions):
    """The transformer in float64, word for word; `positions` `[1 + H W, c]` fit the images."""
    state = {name: array.astype(np.float64) for name, array in state.items()}
    b, h, w, _ = images.shape
    heads, channels = TOY.heads, TOY.width // TOY.heads

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    kernel = state["embeddings.patch_embeddings.projection.weight"]
    images = (images - MEAN) / STD
    patches = np.zeros((b, h // 14, w // 14, TOY.width))
    for i in range(h // 14):
        for j in range(w // 14):
            patch = images[:, 14 * i : 14 * i + 14, 14 * j : 14 * j + 14]
            patches[:, i, j] = np.einsum("byxc,ocyx->bo", patch, kernel)
    patches += state["embeddings.patch_embeddings.projection.bias"]
    cls = np.broadcast_to(state["embeddings.cls_token"], (b, 1, TOY.width))
    x = np.concatenate([cls, patches.reshape(b, -1, TOY.width)], axis=1) + positions
    for i in range(TOY.depth):
        layer = f"encoder.layer.{i}"
        seen = norm(x, f"{layer}.norm1")
        q, k, v = (
            linear(seen, f"{layer}.attention.attention.{part}").reshape(b, -1, heads, channels)
            for part in ("query", "key", "value")
        )
        logits = np.einsum("bnhc,bmhc->bhnm", q, k) / math.sqrt(channels)
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        read = np.einsum("bhnm,bmhc->bnhc", odds / odds.sum(-1, keepdims=True), v)
        read = linear(read.reshape(x.shape), f"{layer}.attention.output.dense")
        x = x + state[f"{layer}.layer_scale1.lambda1"] * read
        hidden = linear(norm(x, f"{layer}.norm2"), f"{layer}.mlp.fc1")
        hidden = 0.5 * hidden * (1 + ERF(hidden / math.sqrt(2)))
        x = x + state[f"{layer}.layer_scale2.lambda1"] * linear(hidden, f"{layer}.mlp.fc2")
    return norm(x, "layernorm")


def images(*shape):
    return np.random.default_rng(sum(shape)).random((*shape, 3), np.float32)


@pytest.mark.parametrize("grid", [(5, 5), (3, 7)])
def test_the_transformer_is_that_of_plain_numpy(grid):
    height, width = grid
    given = images(2, 14 * height, 14 * width)
    stored = STATE["embeddings.position_embeddings"][0].astype(np.float64)
    rows, columns = bicubic_matrix(5, height), bicubic_matrix(5, width)
    square = np.einsum("ih,jw,hwc->ijc", rows, columns, stored[1:].reshape(5, 5, -1))
    positions = np.concatenate([stored[:1], square.reshape(-1, TOY.width)])
    found = apply(given, method="encode")
    np.testing.assert_allclose(found, reference(STATE, given, positions), atol=2e-4)


def test_tokens_lie_on_the_stride_16_grid_each_of_mean_0_and_variance_1():
    given = images(2, 48, 80)
    found = apply(given)
    assert found.shape == (2, 3, 5, TOY.width)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(-1), 1, atol=1e-4)
    resized = jax.image.resize(given, (2, 42, 70, 3), "linear")
    encoded = apply(resized, method="encode")[:, 1:]
    encoded = np.asarray(encoded).reshape(found.shape)
    expected = (encoded - encoded.mean(-1, keepdims=True)) / encoded.std(-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_resizing_is_pytorch_s():
    torch = pytest.importorskip("torch", reason="the reference is PyTorch's")
    interpolate = torch.nn.functional.interpolate
    positions = np.array(FROZEN[NAME]["positions"])
    square = torch.from_numpy(positions[1:]).reshape(1, 5, 5, -1).permute(0, 3, 1, 2)
    for size in ((3, 7), (5, 5), (5, 8), (1, 2), (23, 41)):
        expected = interpolate(square, size=size, mode="bicubic", align_corners=False)
        expected = expected[0].permute(1, 2, 0).reshape(-1, TOY.width)
        found = resize_positions(FROZEN[NAME]["positions"], *size)
        np.testing.assert_array_equal(found[0], positions[0])
        np.testing.assert_allclose(found[1:], expected, atol=1e-5)
    given = images(1, 48, 80)
    expected = interpolate(
        torch.from_numpy(given).permute(0, 3, 1, 2), size=(42, 70), mode="bilinear", antialias=True
    )
    found = jax.image.resize(given, (1, 42, 70, 3), "linear", antialias=True)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=1e-5)


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
    for shape in ((1, 40, 32, 3), (1, 32, 32, 4), (32, 32, 3), (1, 0, 32, 3)):
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
