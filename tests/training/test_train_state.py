import jax
import numpy as np
import optax

from qmra_jax.training.train_state import create_train_state

VARIABLES = {"params": {"w": np.ones(3, np.float32)}, "batch_stats": {"m": np.zeros(2, np.float32)}}


def test_evaluation_uses_the_average_of_the_parameters_if_there_is_one():
    state = create_train_state(VARIABLES, optax.sgd(0.1))
    assert state.ema_params is None
    assert state.variables["params"] is state.params
    averaged = create_train_state(VARIABLES, optax.sgd(0.1), ema=True)
    assert averaged.variables["params"] is averaged.ema_params
    assert averaged.variables["batch_stats"] is averaged.batch_stats
    np.testing.assert_array_equal(averaged.ema_params["w"], 1)


def test_state_can_be_donated_as_no_two_arrays_share_a_buffer():
    state = create_train_state(VARIABLES, optax.adam(0.1), ema=True)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
