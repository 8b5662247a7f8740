import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.priors import foreground, rectified_prior


def test_the_foreground_is_the_second_class_of_the_softmax():
    logits = np.array([[[[0.0, 2.0]]]], np.float32)
    assert float(foreground(logits)[0, 0, 0, 0]) == pytest.approx(1 / (1 + np.exp(-2)))


def test_a_rectified_prior_is_the_filled_tight_box_of_pixels_above_one_half():
    probability = np.full((1, 16, 16, 1), 0.4, np.float32)
    probability[0, 3, 5] = probability[0, 6, 9] = 0.7
    expected = np.zeros((16, 16))
    expected[3:7, 5:10] = 1
    np.testing.assert_array_equal(rectified_prior(jnp.asarray(probability))[0, ..., 0], expected)
