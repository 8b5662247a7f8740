"""Metrics of how sharply a memory is read."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qmra_jax.network import variants
from qmra_jax.network.memory_read import READERS
from qmra_jax.training.inspection import attention, make_inspect
from qmra_jax.training.train_state import create_train_state
from tests.support.toy import BATCH, Toy, toy_config, toy_state

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("reader", ["dot", "topk:k=3"])
def test_attention_weights_reproduce_a_read(reader):
    read = variants.choose("reader", READERS, reader)
    query_key = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    memory_key = RNG.standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
    values = RNG.standard_normal((2, 2, 3, 4, 6)).astype(np.float32)
    weights = attention(read, query_key, memory_key.reshape(4, 3, 4, 5))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    expected = np.einsum("bhwm,bmc->bhwc", weights, values.reshape(2, -1, 6))
    np.testing.assert_allclose(read(query_key, memory_key, values), expected, atol=1e-5)


def test_equal_keys_are_read_evenly_and_distinct_ones_sharply(tiny_model, tiny_variables):
    """The keys of stage 1 are zero; those of stage 2 are scaled by 1000."""
    variables = jax.tree.map(lambda x: x, tiny_variables)
    for stage, factor in (("qma1", 0.0), ("qma2", 1000.0)):
        for side in ("query_kv", "memory_kv"):
            key = variables["params"][stage][side]["key"]
            key["kernel"], key["bias"] = key["kernel"] * factor, key["bias"] * factor
    batch = {name: jnp.asarray(BATCH[name]) for name in ("images", "masks", "boxes")}
    for name in ("images", "masks"):  # 32x32: the program that training runs compile too
        batch[name] = batch[name].repeat(2, axis=2).repeat(2, axis=3)
    state = create_train_state(variables, optax.identity())
    probabilities, metrics = jax.device_get(make_inspect(tiny_model)(state, batch))
    assert {name: x.shape for name, x in probabilities.items()} == dict.fromkeys(
        ("box", "mask", "refined"), (4, 32, 32)
    )
    assert metrics["read_entropy_1"] == pytest.approx(1)
    assert metrics["read_peak_1"] == pytest.approx(1 / 8)  # four positions in each of two frames
    assert metrics["read_entropy_2"] < 0.1
    assert metrics["read_peak_2"] > 0.9


def test_network_that_reads_nothing_has_no_metrics():
    probabilities, metrics = make_inspect(Toy())(toy_state(toy_config()), BATCH)
    assert set(probabilities) == {"box", "mask", "refined"}
    assert metrics == {}
