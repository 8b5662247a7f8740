"""Keys of query and memory start as one projection, with which a position matches itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from qmra_jax.errors import InputError
from qmra_jax.training import key_projection
from qmra_jax.training.key_projection import SELF_MATCH, fit_keys, with_pca_keys

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (16, 32, 48, 3), np.uint8)
MIX = RNG.standard_normal((768, 22)) * np.repeat([1.0, 50.0], [12, 10])
SIDES = [(stage, side) for stage in ("qma1", "qma2") for side in ("query_kv", "memory_kv")]


class Stub:
    """Replaces the network: r4 has 12 channels; 10 channels of tokens have another scale."""

    stages, key_dim, kv_kernel = 2, 8, 3

    def apply(self, variables, images, method):
        assert method == "key_features"
        patches = rearrange(images, "b (h y) (w x) c -> b h w (y x c)", y=16, x=16)
        return jnp.split(patches @ MIX, [12], axis=-1)


def variables(size):
    def random(*shape):
        return RNG.standard_normal(shape).astype(np.float32)

    params = {"qma1": {"fc1": random(3)}, "qma2": {}}
    for stage, side in SIDES:
        key = {"kernel": random(size, size, 22, 8), "bias": random(8)}
        params[stage][side] = {"key": key, "value": random(2)}
    return {"params": params, "batch_stats": {}}


def test_all_keys_are_one_projection_in_the_centre_tap():
    before = variables(3)
    after = with_pca_keys(Stub(), before, IMAGES)
    keys = [after["params"][stage][side]["key"] for stage, side in SIDES]
    for key in keys:
        jax.tree.map(np.testing.assert_array_equal, key, keys[0])
    kernel = np.array(keys[0]["kernel"])
    features = np.concatenate(Stub().apply({}, IMAGES / np.float32(255), "key_features"), axis=-1)
    projected = features.reshape(-1, 22) @ kernel[1, 1] + keys[0]["bias"]
    assert np.square(projected).sum(axis=1).mean() / np.sqrt(8) == pytest.approx(
        SELF_MATCH, rel=1e-3
    )
    kernel[1, 1] = 0
    assert not kernel.any()
    for stage, side in SIDES:  # nothing else changes
        value = before["params"][stage][side]["value"]
        np.testing.assert_array_equal(after["params"][stage][side]["value"], value)
    again = with_pca_keys(Stub(), before, IMAGES)
    jax.tree.map(np.testing.assert_array_equal, again, after)


def test_kinds_of_features_have_equal_weight_whatever_their_scale():
    first, second = RNG.standard_normal((50, 6)), RNG.standard_normal((50, 4))
    kernel, bias = fit_keys([first, second], 5)
    scaled, same_bias = fit_keys([first, 1000 * second], 5)
    np.testing.assert_allclose(np.abs(scaled[:6]), np.abs(kernel[:6]), rtol=1e-3)
    np.testing.assert_allclose(1000 * np.abs(scaled[6:]), np.abs(kernel[6:]), rtol=1e-3)
    np.testing.assert_allclose(np.abs(same_bias), np.abs(bias), rtol=1e-3)


def test_more_key_channels_than_feature_channels_are_refused():
    with pytest.raises(InputError, match=r"model\.key_dim 5: .* 4 channels"):
        fit_keys([RNG.standard_normal((9, 4))], 5)


def test_every_process_fits_on_the_same_images(monkeypatch, tiny_config):
    monkeypatch.setattr(key_projection, "IMAGES", 4)
    images = key_projection.training_images(tiny_config)
    assert (images.shape, images.dtype) == ((4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(key_projection.training_images(tiny_config), images)
