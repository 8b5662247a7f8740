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


def test_what_an_example_draws_depends_on_its_number_and_the_step_alone():
    config = toy_config(memory_maps="mixed")
    whole = draw_predicted(config, 3, jnp.arange(64))
    parts = [draw_predicted(config, 3, part) for part in (jnp.arange(40), jnp.arange(40, 64))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert 16 < whole.sum() < 48
    assert (draw_predicted(config, 4, jnp.arange(64)) != whole).any()
    assert (
        draw_predicted(toy_config(memory_maps="mixed", seed=1), 3, jnp.arange(64)) != whole
    ).any()


def test_the_share_of_predicted_maps_follows_its_schedule():
    config = toy_config(memory_maps="mixed", predicted_share=((0, 0.0), (10, 0.25), (20, 1.0)))
    means = [
        float(draw_predicted(config, step, jnp.arange(400)).mean()) for step in (9, 10, 19, 20)
    ]
    assert means[0] == 0
    assert means[1:3] == pytest.approx([0.25, 0.25], abs=0.07)
    assert means[3] == 1


def test_truth_draws_nothing_and_predicted_takes_all():
    assert draw_predicted(toy_config(memory_maps="truth"), 0, jnp.arange(4)) is None
    assert draw_predicted(toy_config(memory_maps="predicted"), 0, jnp.arange(4)).all()


def test_a_predicted_map_is_what_inference_would_have_stored(tiny_model, tiny_variables):
    def apply(*args, method=None):
        return tiny_model.apply(tiny_variables, *args, method=method)

    predicted = np.array([True, False])
    found = apply(QUERY, MEMORY, MAPS, predicted, method="with_predicted_maps")

    first = apply(MEMORY[:, 0], MAPS[:, 0], method="memorize")
    located = apply(MEMORY[:, 1], first, method="locate")
    maps = np.stack([MAPS[:, 0], MAPS[:, 1]], axis=1)
    maps[0, 1] = foreground(located.box)[0]
    expected = apply(QUERY, MEMORY, maps)
    given = apply(QUERY, MEMORY, MAPS)
    for name, logits in expected.items():
        np.testing.assert_allclose(found[name], logits, atol=1e-4)
        assert np.abs(found[name][0] - given[name][0]).max() > 1e-3
        np.testing.assert_allclose(found[name][1], given[name][1], atol=1e-4)


@pytest.mark.parametrize("gradient", [False, True])
def test_the_loss_reaches_the_pass_that_predicts_only_if_asked_to(
    tiny_model, tiny_variables, gradient
):
    def box(bias):  # of stage 1's logits: it moves the query's, and through the map the memory
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
    # Weights that sum up to nothing: what the bias does to every logit alike is not seen.
    seen = np.random.default_rng(0).standard_normal(logits.shape).astype(np.float32)
    (through_the_map,) = pull(seen - seen.mean(axis=(0, 1, 2)))
    assert (np.abs(through_the_map).max() > 1e-4) == gradient
