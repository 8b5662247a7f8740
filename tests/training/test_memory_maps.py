import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.model import foreground
from qmra_jax.training.memory_maps import draw_predicted
from tests.support.toy import toy_config

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(2, 3, 32, 32, 3)).astype(np.float32)
MAPS = RNG.uniform(size=(2, 2, 32, 32, 1)).astype(np.float32)
QUERY, MEMORY = IMAGES[:, 2], IMAGES[:, :2]


def test_draw_depends_on_seed_step_and_example_number_alone():
    config = toy_config(memory_maps="mixed")
    whole = draw_predicted(config, 3, jnp.arange(64))
    parts = [draw_predicted(config, 3, part) for part in (jnp.arange(40), jnp.arange(40, 64))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert 16 < whole.sum() < 48
    for other, step in ((config, 4), (toy_config(memory_maps="mixed", seed=1), 3)):
        assert (draw_predicted(other, step, jnp.arange(64)) != whole).any()


def test_share_of_predicted_maps_follows_its_schedule():
    config = toy_config(memory_maps="mixed", predicted_share=((0, 0.0), (10, 0.25), (20, 1.0)))
    shares = [
        float(draw_predicted(config, step, jnp.arange(400)).mean()) for step in (9, 10, 19, 20)
    ]
    assert (shares[0], shares[3]) == (0, 1)
    assert shares[1:3] == pytest.approx([0.25, 0.25], abs=0.07)


def test_truth_draws_none_and_predicted_all():
    assert draw_predicted(toy_config(memory_maps="truth"), 0, jnp.arange(4)) is None
    assert draw_predicted(toy_config(memory_maps="predicted"), 0, jnp.arange(4)).all()


def test_predicted_map_is_the_one_that_inference_stores(tiny_model, tiny_variables):
    def apply(*args, method=None):
        return tiny_model.apply(tiny_variables, *args, method=method)

    predicted = np.array([True, False])
    actual = apply(QUERY, MEMORY, MAPS, predicted, method="with_predicted_maps")

    first = apply(MEMORY[:, 0], MAPS[:, 0], method="memorize")
    located = apply(MEMORY[:, 1], first, method="locate")
    maps = MAPS.copy()
    maps[0, 1] = foreground(located.box)[0]
    expected = apply(QUERY, MEMORY, maps)
    with_true_maps = apply(QUERY, MEMORY, MAPS)
    for name, logits in expected.items():
        np.testing.assert_allclose(actual[name], logits, atol=1e-4)
        assert np.abs(actual[name][0] - with_true_maps[name][0]).max() > 1e-3
        np.testing.assert_allclose(actual[name][1], with_true_maps[name][1], atol=1e-4)


@pytest.mark.parametrize("gradient", [False, True])
def test_gradient_flows_through_the_predicted_map_only_on_request(
    tiny_model, tiny_variables, gradient
):
    def box(bias):  # of stage 1's logits: shifts the query's directly, the memory's through the map
        params = jax.tree.map(lambda x: x, tiny_variables["params"])
        params["box_decoder"]["pred"]["bias"] += bias
        return tiny_model.apply(
            tiny_variables | {"params": params},
            QUERY,
            MEMORY,
            MAPS,
            np.array([True, True]),
            gradient,
            method="with_predicted_maps",
        )["box"]

    logits, pull = jax.vjp(box, jnp.zeros(2))
    # A cotangent that sums to zero cancels the direct effect, which is the same for all logits.
    cotangent = np.random.default_rng(0).standard_normal(logits.shape).astype(np.float32)
    (through_the_map,) = pull(cotangent - cotangent.mean(axis=(0, 1, 2)))
    assert (np.abs(through_the_map).max() > 1e-4) == gradient
