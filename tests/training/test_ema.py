import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.training import ema


def test_a_young_average_forgets_its_start():
    assert [float(ema.decay_at(t, 0.5)) for t in (0, 2, 8, 1000)] == pytest.approx(
        [0.1, 0.25, 0.5, 0.5]
    )


def test_the_average_moves_to_the_parameters_by_one_minus_decay():
    average, params = {"w": np.float32([1, 2])}, {"w": np.float32([3, 2])}
    moved = ema.update(average, params, 10**6, 0.75)
    np.testing.assert_allclose(moved["w"], [1.5, 2])


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(InputError, match=r"ema_decay .*expected 0"):
        ema.check_decay(decay)
