import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from qmra_jax.errors import InputError
from qmra_jax.optimizer import make_optimizer, make_schedule

PARAMS = {"query_encoder": {"w": jnp.ones(3)}, "box_decoder": {"w": jnp.ones(3)}}
GRADS = {"query_encoder": {"w": jnp.full(3, 0.3)}, "box_decoder": {"w": jnp.full(3, 40.0)}}


def config(**values):
    settings = common.get_config().optimizer
    settings.update(values)
    return settings


def updates(settings, steps=10):
    optimizer = make_optimizer(settings, steps)
    return optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)[0]


def test_the_paper_s_is_adam_at_a_fixed_rate():
    assert [float(make_schedule(config(), 10)(step)) for step in (0, 5, 9)] == pytest.approx(
        [1e-5] * 3
    )
    adam = optax.adam(1e-5)
    expected = adam.update(GRADS, adam.init(PARAMS), PARAMS)[0]
    for part in PARAMS:
        np.testing.assert_allclose(updates(config())[part]["w"], expected[part]["w"], rtol=1e-6)


def test_encoders_may_learn_at_their_own_rate():
    got = updates(config(learning_rate=1.0, encoder_scale=0.1))
    np.testing.assert_allclose(got["query_encoder"]["w"], -0.1, rtol=1e-4)
    np.testing.assert_allclose(got["box_decoder"]["w"], -1.0, rtol=1e-4)


def test_weight_decay_is_decoupled_and_follows_each_rate():
    plain = updates(config(learning_rate=1.0, encoder_scale=0.1))
    decayed = updates(config(learning_rate=1.0, encoder_scale=0.1, weight_decay=0.5))
    for part, decay in (("query_encoder", 0.05), ("box_decoder", 0.5)):
        np.testing.assert_allclose(plain[part]["w"] - decayed[part]["w"], decay, rtol=1e-3)


def test_linear_tail_is_constant_then_falls_to_zero():
    settings = config(learning_rate=1.0, schedule="linear_tail", decay_share=0.5)
    rates = [float(make_schedule(settings, 10)(step)) for step in range(11)]
    assert rates == pytest.approx([1.0] * 6 + [0.8, 0.6, 0.4, 0.2, 0.0], abs=1e-6)


def test_cosine_halves_halfway():
    rate = make_schedule(config(learning_rate=1.0, schedule="cosine"), 10)
    assert [float(rate(s)) for s in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


def test_warm_up_rises_linearly_to_the_schedule():
    rate = make_schedule(config(learning_rate=1.0, warmup_steps=4), 10)
    assert [float(rate(step)) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="'step': expected one of constant"):
        make_schedule(config(schedule="step"), 10)
