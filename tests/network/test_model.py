import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax import build_model
from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.priors import foreground
from tests.support.tiny import TINY
from tests.support.toy_dinov2 import TOY_SPEC

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(3, 32, 48, 3)).astype(np.float32)
MAPS = RNG.uniform(size=(3, 32, 48, 1)).astype(np.float32)
INPUTS = IMAGES[2:], IMAGES[None, :2], MAPS[None, :2]


@pytest.fixture(scope="module")
def apply(tiny_model, tiny_variables):
    return lambda *args, method=None: tiny_model.apply(tiny_variables, *args, method=method)


def test_the_network_gives_three_float32_logits_of_the_querys_size(apply):
    outputs = apply(IMAGES[:2], np.stack([IMAGES, IMAGES]), np.stack([MAPS, MAPS]))
    assert list(outputs) == ["box", "mask", "refined"]
    for logits in outputs.values():
        assert logits.shape == (2, 32, 48, 2)
        assert logits.dtype == jnp.float32
        assert np.isfinite(logits).all()


def test_the_methods_called_separately_give_the_whole_networks_outputs(apply):
    query, whole = IMAGES[2:], apply(*INPUTS)
    frames = [apply(IMAGES[i : i + 1], MAPS[i : i + 1], method="memorize") for i in range(2)]
    memory = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *frames)
    located = apply(query, memory, method="locate")
    segmented = apply(query, foreground(located.box), memory, located.feature, method="segment")
    np.testing.assert_allclose(located.box, whole["box"], atol=1e-4)
    np.testing.assert_allclose(segmented.mask, whole["mask"], atol=1e-4)
    np.testing.assert_allclose(segmented.refined, whole["refined"], atol=1e-4)

    # Siamese encoder: stage 2's feature of the query is that of memorising it with B_q.
    answer = apply(query, memory, method="answer")
    np.testing.assert_allclose(answer.logits, whole["refined"], atol=1e-4)
    again = apply(query, foreground(located.box), method="memorize")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), answer.memory, again)


def test_one_image_with_several_objects_gives_each_objects_outputs(apply):
    def run(image):
        memory = apply(image, MAPS, method="memorize")
        answer = apply(image, memory, None, MAPS, method="answer")
        return answer.outputs

    together, apart = run(IMAGES[:1]), run(np.repeat(IMAGES[:1], 3, axis=0))
    for name, logits in together.items():
        assert logits.shape == (3, 32, 48, 2)
        np.testing.assert_allclose(logits, apart[name], atol=1e-4)


def test_bfloat16_outputs_are_close_to_float32(apply, tiny_variables):
    full = apply(*INPUTS)["refined"]
    half = build_model({**TINY, "dtype": "bfloat16"}).apply(tiny_variables, *INPUTS)["refined"]
    assert half.dtype == jnp.float32
    assert 0 < np.abs(half - full).max() < 0.1 * np.abs(full).max()


def test_an_images_frozen_features_are_computed_once_and_join_r4():
    model = build_model({**TINY, "features": TOY_SPEC})
    shapes = variable_shapes(model)
    for stage in ("qma1", "qma2"):
        for side in ("query_kv", "memory_kv"):
            assert shapes["params"][stage][side]["key"]["kernel"].shape == (1, 1, 256 + 24, 8)

    def transformers(*inputs, method=None):
        run = jax.make_jaxpr(lambda variables: model.apply(variables, *inputs, method=method))
        traced = run(shapes)
        return [e.outvars[0].aval.shape[0] for e in traced.eqns if e.primitive.name == "scan"]

    predicted = np.ones(1, bool)
    assert transformers(*INPUTS) == [3]
    assert transformers(*INPUTS, predicted, method="with_predicted_maps") == [3]
    memory = jax.eval_shape(lambda v: model.apply(v, IMAGES[:1], MAPS, method="memorize"), shapes)
    memory = jax.tree.map(lambda x: jnp.zeros(x.shape), memory)
    assert transformers(IMAGES[:1], memory, method="answer") == [1]


BLOCKS = 3 * 6  # of ResNet-18: the query in f_q, the memory in f_m, the query in f_m


@pytest.mark.parametrize(
    ("remat", "expected"), [("none", 0), ("encoders", BLOCKS), ("all", BLOCKS + 3)]
)
def test_remat_recomputes_the_chosen_modules(tiny_model, remat, expected):
    """test_parallel_invariance.py shows that training is the same."""
    model = build_model({**TINY, "remat": remat})
    shapes = variable_shapes(model)
    assert shapes == variable_shapes(tiny_model)
    traced = jax.make_jaxpr(lambda variables: model.apply(variables, *INPUTS))(shapes)
    names = [equation.primitive.name for equation in traced.jaxpr.eqns]
    assert sum(name in ("checkpoint", "remat2") for name in names) == expected


@pytest.mark.parametrize(
    ("shapes", "named"),
    [
        (((1, 32, 40, 3), (1, 2, 32, 40, 3), (1, 2, 32, 40, 1)), "multiples of 16"),
        (((1, 32, 48, 3), (1, 2, 32, 32, 3), (1, 2, 32, 48, 1)), r"expected \[b,h,w,3\]"),
        (((1, 32, 48, 3), (1, 0, 32, 48, 3), (1, 0, 32, 48, 1)), "at least one memory frame"),
        (((32, 48, 3), (1, 2, 32, 48, 3), (1, 2, 32, 48, 1)), r"shapes \(32, 48, 3\)"),
    ],
)
def test_inputs_of_other_shapes_are_rejected(apply, shapes, named):
    with pytest.raises(InputError, match=named):
        apply(*map(jnp.zeros, shapes))
