import jax
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.aggregation import AGGREGATORS, BCA, QueryMemoryAggregation
from qmra_jax.network.memory_read import dot

RNG = np.random.default_rng(0)
QUERY = RNG.standard_normal((2, 3, 4, 8)).astype(np.float32)
READ = RNG.standard_normal((2, 3, 4, 8)).astype(np.float32)


def test_bca_is_equations_7_to_9():
    layer = BCA(reduction=4)
    params = layer.init(jax.random.key(0), QUERY, READ)["params"]
    assert params["fc1"]["kernel"].shape == (16, 4)
    params = jax.tree.map(lambda x: x + 0.3, params)  # biases that matter

    z = np.concatenate([QUERY.mean((1, 2)), READ.mean((1, 2))], axis=-1)
    hidden = np.maximum(z @ params["fc1"]["kernel"] + params["fc1"]["bias"], 0)
    weights = 1 / (1 + np.exp(-(hidden @ params["fc2"]["kernel"] + params["fc2"]["bias"])))
    w_q, w_m = weights[:, None, None, :8], weights[:, None, None, 8:]
    expected = np.concatenate([w_q * QUERY, w_m * READ], axis=-1)
    np.testing.assert_allclose(layer.apply({"params": params}, QUERY, READ), expected, atol=1e-5)


def test_qma_reads_then_aggregates_with_its_parameters_side_by_side():
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

    read = dot(
        project("query_kv", "key", 2 * features),
        project("memory_kv", "key", features)[:, None],
        project("memory_kv", "value", features)[:, None],
    )
    bca = {"params": {name: params[name] for name in ("fc1", "fc2")}}
    expected = BCA(4).apply(bca, project("query_kv", "value", 2 * features), read)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_one_way_bca_weighs_one_half_and_leaves_the_other():
    for name, weighed in (("query_only", slice(8)), ("memory_only", slice(8, 16))):
        layer = AGGREGATORS[name](reduction=4)
        out, variables = layer.init_with_output(jax.random.key(0), QUERY, READ)
        params = variables["params"]
        assert params["fc2"]["kernel"].shape == (4, 8)
        both = np.concatenate([QUERY, READ], axis=-1)
        hidden = np.maximum(both.mean((1, 2)) @ params["fc1"]["kernel"], 0)
        weights = 1 / (1 + np.exp(-(hidden @ params["fc2"]["kernel"])))
        expected = both.copy()
        expected[..., weighed] *= weights[:, None, None]
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_without_an_aggregator_query_and_read_out_stand_side_by_side():
    layer = AGGREGATORS["none"]()
    out, variables = layer.init_with_output(jax.random.key(0), QUERY, READ)
    assert not variables
    np.testing.assert_array_equal(out, np.concatenate([QUERY, READ], axis=-1))


def test_spatial_weighs_each_place_of_each_half():
    layer = AGGREGATORS["spatial"](reduction=4)
    out, _ = layer.init_with_output(jax.random.key(0), QUERY, READ)
    for half, given in ((out[..., :8], QUERY), (out[..., 8:], READ)):
        weights = np.asarray(half / given)
        np.testing.assert_allclose(weights, weights[..., :1].repeat(8, -1), rtol=1e-3)
        assert ((weights > 0) & (weights < 1)).all()
        assert weights[..., 0].std() > 1e-3


@pytest.mark.parametrize("name", ["bca", "spatial", "query_only"])
def test_a_reduction_to_nothing_is_refused(name):
    with pytest.raises(InputError, match="reduction 17"):
        AGGREGATORS[name](reduction=17).init(jax.random.key(0), QUERY, READ)
