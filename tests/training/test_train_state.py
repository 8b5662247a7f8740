import jax
import numpy as np
import optax

from qmra_jax.training.train_state import create_train_state

VARIABLES = {"params": {"w": np.ones(3, np.float32)}, "batch_stats": {"m": np.zeros(2, np.float32)}}


def test_evaluation_takes_the_parameters_unless_there_is_an_average():
    state = create_train_state(VARIABLES, optax.sgd(0.1))
    assert state.ema_params is None
    assert state.variables["params"] is state.params
    with_average = create_train_state(VARIABLES, optax.sgd(0.1), ema=True)
    assert with_average.variables["params"] is with_average.ema_params
    assert with_average.variables["batch_stats"] is with_average.batch_stats
    np.testing.assert_array_equal(with_average.ema_params["w"], 1)


def test_no_two_arrays_of_a_state_are_one_buffer_which_donation_would_refuse():
    state = create_train_state(VARIABLES, optax.adam(0.1), ema=True)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
