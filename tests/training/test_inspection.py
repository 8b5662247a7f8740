"""How sharply a memory is read, whatever the reader."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qmra_jax import build_model
from qmra_jax.network import variants
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.memory_read import READERS
from qmra_jax.training.inspection import attention, make_inspect
from qmra_jax.training.train_state import create_train_state
from tests.support.tiny import TINY, random_variables
from tests.support.toy import BATCH, Toy, toy_config, toy_state

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("reader", ["dot", "l2", "cosine", "topk:k=3", "kernel:sigma=2"])
def test_attention_is_what_a_read_out_weighs_the_values_by(reader):
    read = variants.choose("reader", READERS, reader)
    query_key = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    memory_key = RNG.standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
    values = RNG.standard_normal((2, 2, 3, 4, 6)).astype(np.float32)
    weights = attention(read, query_key, memory_key.reshape(4, 3, 4, 5))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    expected = np.einsum("bhwm,bmc->bhwc", weights, values.reshape(2, -1, 6))
    np.testing.assert_allclose(read(query_key, memory_key, values), expected, atol=1e-5)


def test_keys_that_are_all_alike_are_read_evenly_and_distinct_ones_sharply():
    """Of stage 1 the keys are zero, of stage 2 they are the features a thousandfold."""
    model = build_model(TINY)
    variables = random_variables(variable_shapes(model))
    for stage, factor in (("qma1", 0.0), ("qma2", 1000.0)):
        for side in ("query_kv", "memory_kv"):
            key = variables["params"][stage][side]["key"]
            key["kernel"], key["bias"] = key["kernel"] * factor, key["bias"] * factor
    batch = {name: jnp.asarray(array[:2]) for name, array in BATCH.items()}
    state = create_train_state(variables, optax.identity())
    probabilities, figures = jax.device_get(make_inspect(model)(state, batch))
    assert {name: x.shape for name, x in probabilities.items()} == dict.fromkeys(
        ("box", "mask", "refined"), (2, 16, 16)
    )
    assert figures["read_entropy_1"] == pytest.approx(1)
    assert figures["read_peak_1"] == pytest.approx(1 / 2)  # of one place in each of two frames
    assert figures["read_entropy_2"] < 0.1
    assert figures["read_peak_2"] > 0.9


def test_a_network_that_reads_nothing_has_no_figures():
    probabilities, figures = make_inspect(Toy())(toy_state(toy_config()), BATCH)
    assert set(probabilities) == {"box", "mask", "refined"}
    assert figures == {}
