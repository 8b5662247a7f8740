import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax import build_model
from qmra_jax.errors import InputError
from qmra_jax.network.build import init_variables
from qmra_jax.network.priors import foreground, rectified_prior
from tests.support.tiny import TINY

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(3, 32, 48, 3)).astype(np.float32)
MAPS = RNG.uniform(size=(3, 32, 48, 1)).astype(np.float32)

# Every config, and the parameters of its network: a new config is not done until it stands here.
PARAMETERS = {
    "common": 53_235_782,
    "pretrain_static": 53_235_782,
    "youtube_vos": 53_235_782,
    "stm": 38_922_434,
    "small": 7_867_430,
    "small_video": 7_867_430,
    "small_large": 7_867_430,
    "smoke": 6_277_750,
    "ablations": 7_867_430,
}


def test_every_config_has_its_parameters_pinned():
    configs = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__"}
    assert configs == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    shapes = jax.eval_shape(lambda: init_variables(build_model(config.model)))
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == PARAMETERS[name]


def test_the_contract_gives_three_float32_logits_of_the_query_s_size(tiny_model, tiny_variables):
    outputs = tiny_model.apply(
        tiny_variables,
        IMAGES[:2],
        np.stack([IMAGES, IMAGES], axis=0),
        np.stack([MAPS, MAPS], axis=0),
    )
    assert set(outputs) == {"box", "mask", "refined"}
    for logits in outputs.values():
        assert logits.shape == (2, 32, 48, 2)
        assert logits.dtype == jnp.float32
        assert np.isfinite(logits).all()


def test_the_methods_apart_are_the_network_as_a_whole(tiny_model, tiny_variables):
    def apply(*args, method):
        return tiny_model.apply(tiny_variables, *args, method=method)

    query = IMAGES[2:]
    whole = tiny_model.apply(tiny_variables, query, IMAGES[None, :2], MAPS[None, :2])
    frames = [apply(IMAGES[i : i + 1], MAPS[i : i + 1], method="memorize") for i in range(2)]
    memory = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *frames)
    located = apply(query, memory, method="locate")
    segmented = apply(query, foreground(located.box), memory, located.feature, method="segment")
    np.testing.assert_allclose(located.box, whole["box"], atol=1e-4)
    np.testing.assert_allclose(segmented.mask, whole["mask"], atol=1e-4)
    np.testing.assert_allclose(segmented.refined, whole["refined"], atol=1e-4)

    # Siamese: what stage 2 makes of the query is what memorising it with B_q would.
    answer = apply(query, memory, method="answer")
    np.testing.assert_allclose(answer.logits, whole["refined"], atol=1e-4)
    again = apply(query, foreground(located.box), method="memorize")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), answer.memory, again)


def test_one_image_beside_several_objects_is_each_object_by_itself(tiny_model, tiny_variables):
    def run(image):
        memory = tiny_model.apply(tiny_variables, image, MAPS, method="memorize")
        located = tiny_model.apply(tiny_variables, image, memory, method="locate")
        segmented = tiny_model.apply(
            tiny_variables, image, MAPS, memory, located.feature, method="segment"
        )
        return located.box, segmented.refined

    together = run(IMAGES[:1])
    apart = run(np.repeat(IMAGES[:1], 3, axis=0))
    for a, b in zip(together, apart, strict=True):
        assert a.shape == (3, 32, 48, 2)
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_rectified_prior_is_the_filled_tight_box_of_what_is_likely():
    probability = np.full((1, 16, 16, 1), 0.4, np.float32)
    probability[0, 3, 5] = probability[0, 6, 9] = 0.7
    expected = np.zeros((16, 16))
    expected[3:7, 5:10] = 1
    np.testing.assert_array_equal(rectified_prior(jnp.asarray(probability))[0, ..., 0], expected)


def test_the_computation_in_bfloat16_stays_near_float32(tiny_variables):
    inputs = IMAGES[2:], IMAGES[None, :2], MAPS[None, :2]
    full = build_model(TINY).apply(tiny_variables, *inputs)["refined"]
    half = build_model({**TINY, "dtype": "bfloat16"}).apply(tiny_variables, *inputs)["refined"]
    assert half.dtype == jnp.float32
    assert 0 < np.abs(half - full).max() < 0.1 * np.abs(full).max()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"bakcbone": "resnet18"}, "no bakcbone: expected .*backbone"),
        ({"backbone": "resnet34"}, "backbone 'resnet34': expected one of resnet18, resnet50"),
        ({"reader": "dot:scales=1"}, "reader 'dot:scales=1'"),
        ({"reader": "dot:valid=1"}, "'valid=1' is not an option of 'dot'; .*: fused, rows, scale$"),
        ({"key_dim": -3}, "key_dim -3: expected a whole number of at least 1"),
        ({"dtype": "float99"}, "dtype 'float99': expected one of float32"),
        ({"aggregator": "cba"}, "aggregator 'cba': expected one of bca"),
        ({"prior": "hard"}, "prior 'hard': expected one of binary, odds, rectified, soft"),
        ({"refine": "mrc"}, "refine 'mrc': expected one of crm"),
    ],
)
def test_a_model_that_does_not_exist_is_refused_when_built(config, says):
    with pytest.raises(InputError, match=says):
        build_model(config)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((1, 32, 40, 3), (1, 2, 32, 40, 3), (1, 2, 32, 40, 1)), "multiples of 16"),
        (((1, 32, 48, 3), (1, 2, 32, 32, 3), (1, 2, 32, 48, 1)), r"expected \[b,h,w,3\]"),
        (((1, 32, 48, 3), (1, 0, 32, 48, 3), (1, 0, 32, 48, 1)), "at least one memory frame"),
        (((32, 48, 3), (1, 2, 32, 48, 3), (1, 2, 32, 48, 1)), r"shapes \(32, 48, 3\)"),
    ],
)
def test_inputs_of_other_shapes_are_refused(tiny_model, tiny_variables, shapes, says):
    with pytest.raises(InputError, match=says):
        tiny_model.apply(tiny_variables, *map(jnp.zeros, shapes))
