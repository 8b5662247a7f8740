import jax
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.aggregation import AGGREGATORS, BCA, QueryMemoryAggregation
from qmra_jax.network.memory_read import dot

RNG = np.random.default_rng(0)
QUERY, READ_OUT = RNG.standard_normal((2, 2, 3, 4, 8)).astype(np.float32)
BOTH = np.concatenate([QUERY, READ_OUT], axis=-1)


@pytest.mark.parametrize(
    ("name", "weighted"),
    [("bca", slice(16)), ("query_only", slice(8)), ("memory_only", slice(8, 16))],
)
def test_bca_is_equations_7_to_9_and_one_way_bca_weights_one_half(name, weighted):
    layer = AGGREGATORS[name](reduction=4)
    params = layer.init(jax.random.key(0), QUERY, READ_OUT)["params"]
    params = jax.tree.map(lambda x: x + 0.3, params)  # biases are initially zero

    hidden = BOTH.mean((1, 2)) @ params["fc1"]["kernel"] + params["fc1"]["bias"]
    assert hidden.shape == (2, 4)
    logits = np.maximum(hidden, 0) @ params["fc2"]["kernel"] + params["fc2"]["bias"]
    expected = BOTH.copy()
    expected[..., weighted] *= (1 / (1 + np.exp(-logits)))[:, None, None]
    np.testing.assert_allclose(
        layer.apply({"params": params}, QUERY, READ_OUT), expected, atol=1e-5
    )


def test_qma_reads_then_aggregates_with_the_parameters_in_one_scope():
    layer = QueryMemoryAggregation(4, 8, aggregator="bca:reduction=4")
    features = RNG.standard_normal((1, 3, 4, 5)).astype(np.float32)

    def run(module):
        key, value = module.memorize(features)
        return module(2 * features, key[:, None], value[:, None])

    out, variables = layer.init_with_output(jax.random.key(0), method=run)
    params = variables["params"]
    assert set(params) == {"memory_kv", "query_kv", "fc1", "fc2"}

    def project(kv, part, x):
        return x @ params[kv][part]["kernel"][0, 0] + params[kv][part]["bias"]

    read_out = dot(
        project("query_kv", "key", 2 * features),
        project("memory_kv", "key", features)[:, None],
        project("memory_kv", "value", features)[:, None],
    )
    bca = {"params": {name: params[name] for name in ("fc1", "fc2")}}
    expected = BCA(4).apply(bca, project("query_kv", "value", 2 * features), read_out)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_without_an_aggregator_query_and_read_out_are_concatenated():
    out, variables = AGGREGATORS["none"]().init_with_output(jax.random.key(0), QUERY, READ_OUT)
    assert not variables
    np.testing.assert_array_equal(out, BOTH)


def test_spatial_weights_each_place_of_each_half():
    layer = AGGREGATORS["spatial"](reduction=4)
    out, _ = layer.init_with_output(jax.random.key(0), QUERY, READ_OUT)
    for weights in np.split(np.asarray(out / BOTH), 2, axis=-1):
        np.testing.assert_allclose(weights, weights[..., :1].repeat(8, -1), rtol=1e-3)
        assert ((weights > 0) & (weights < 1)).all()
        assert weights[..., 0].std() > 1e-3


@pytest.mark.parametrize("name", ["bca", "spatial", "query_only"])
def test_a_reduction_beyond_the_width_is_rejected(name):
    with pytest.raises(InputError, match="reduction 17"):
        AGGREGATORS[name](reduction=17).init(jax.random.key(0), QUERY, READ_OUT)
