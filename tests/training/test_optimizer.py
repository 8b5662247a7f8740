import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from qmra_jax import build_model
from qmra_jax.network.build import variable_shapes
from qmra_jax.training.optimizer import ema_decay_at, make_optimizer, make_schedule, update_ema
from tests.support.tiny import TINY

PARAMS = {"query_encoder": {"w": jnp.ones(3)}, "box_decoder": {"w": jnp.ones(3)}}
GRADS = {"query_encoder": {"w": jnp.full(3, 0.3)}, "box_decoder": {"w": jnp.full(3, 40.0)}}


def config(**values):
    settings = common.get_config().optimizer
    settings.update(values)
    return settings


def updates(settings, steps=10):
    optimizer = make_optimizer(settings, steps)
    return optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)[0]


def test_default_is_the_papers_adam_at_a_fixed_rate():
    adam = optax.adam(1e-5)
    expected = adam.update(GRADS, adam.init(PARAMS), PARAMS)[0]
    for part in PARAMS:
        np.testing.assert_allclose(updates(config())[part]["w"], expected[part]["w"], rtol=1e-6)


def test_every_encoder_learns_at_the_scaled_rate():
    params = variable_shapes(build_model({**TINY, "siamese": False}))["params"]
    ones = {part: {"w": jnp.ones(3)} for part in params}
    optimizer = make_optimizer(config(learning_rate=1.0, encoder_scale=0.1), 10)
    got = optimizer.update(ones, optimizer.init(ones), ones)[0]
    rates = {part: round(-float(x["w"][0]), 3) for part, x in got.items()}
    slow = {"query_encoder", "memory_encoder", "refined_query_encoder"}
    assert {part for part, rate in rates.items() if rate == 0.1} == slow
    assert all(rate == 1.0 for part, rate in rates.items() if part not in slow)


def test_weight_decay_is_decoupled_and_scaled_by_each_rate():
    plain = updates(config(learning_rate=1.0, encoder_scale=0.1))
    decayed = updates(config(learning_rate=1.0, encoder_scale=0.1, weight_decay=0.5))
    for part, decay in (("query_encoder", 0.05), ("box_decoder", 0.5)):
        np.testing.assert_allclose(plain[part]["w"] - decayed[part]["w"], decay, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({}, [1.0] * 11),
        ({"warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"schedule": "linear_tail", "decay_share": 0.5}, [1.0] * 6 + [0.8, 0.6, 0.4, 0.2, 0.0]),
        ({"schedule": "cosine"}, [(1 + np.cos(np.pi * step / 10)) / 2 for step in range(11)]),
        ({"schedule": "polynomial"}, [(1 - step / 10) ** 0.9 for step in range(11)]),
    ],
)
def test_learning_rate_follows_its_schedule(settings, rates):
    rate = make_schedule(config(learning_rate=1.0, **settings), 10)
    assert [float(rate(step)) for step in range(len(rates))] == pytest.approx(rates, abs=1e-6)


def test_sgd_with_momentum_and_decay_matches_pytorch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    settings = config(name="sgd", learning_rate=0.1, momentum=0.8, weight_decay=0.3)
    optimizer, params = make_optimizer(settings, 10), PARAMS
    state = optimizer.init(params)
    theirs = torch.nn.Parameter(torch.ones(3))
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=0.8, weight_decay=0.3)
    for _ in range(3):
        change, state = optimizer.update(GRADS, state, params)
        params = optax.apply_updates(params, change)
        theirs.grad = torch.full((3,), 0.3)
        sgd.step()
    np.testing.assert_allclose(params["query_encoder"]["w"], theirs.detach(), rtol=1e-5)


def test_gradient_is_clipped_by_its_global_norm():
    got = updates(config(name="sgd", learning_rate=1.0, momentum=0.0, clip_norm=1.0))
    assert float(optax.tree.norm(got)) == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(
        got["query_encoder"]["w"] / got["box_decoder"]["w"], 0.3 / 40, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_biases_and_batch_norm_decay_only_on_request(name):
    params = {"crm": {key: jnp.ones(2) for key in ("kernel", "bias", "scale")}}
    zeros = jax.tree.map(jnp.zeros_like, params)

    def moved(**values):
        settings = config(name=name, learning_rate=1.0, weight_decay=0.5, **values)
        optimizer = make_optimizer(settings, 10)
        change, _ = optimizer.update(zeros, optimizer.init(params), params)
        return {key: float(x[0]) for key, x in change["crm"].items()}

    assert moved() == {"kernel": -0.5, "bias": 0, "scale": 0}
    assert moved(decay_norm_and_bias=True) == {"kernel": -0.5, "bias": -0.5, "scale": -0.5}


def test_early_average_forgets_the_initial_weights():
    decays = [float(ema_decay_at(t, 0.5)) for t in (0, 2, 8, 1000)]
    assert decays == pytest.approx([0.1, 0.25, 0.5, 0.5])


def test_average_moves_towards_the_parameters_by_one_minus_decay():
    average, params = {"w": np.float32([1, 2])}, {"w": np.float32([3, 2])}
    np.testing.assert_allclose(update_ema(average, params, 10**6, 0.75)["w"], [1.5, 2])
