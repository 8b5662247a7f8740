import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import parallel
from qmra_jax.training.inspection import make_inspect
from qmra_jax.training.losses import qmra_loss
from qmra_jax.training.optimizer import ema_decay_at, make_optimizer, make_schedule
from qmra_jax.training.train_state import create_train_state
from qmra_jax.training.train_step import (
    make_diagnose,
    make_forward,
    make_targets,
    make_train_step,
    unpack,
)
from tests.support.invariance import Miniature, make_batch, make_config
from tests.support.tiny import TINY, random_variables
from tests.support.toy import (
    BATCH,
    BLACK,
    PARAMS,
    RATE,
    Toy,
    distance,
    toy_config,
    toy_state,
    toy_step,
)


def start(config):
    """A parallelised step and its initial state, on two devices."""
    return parallel.parallelize(toy_step(config)), parallel.replicate(toy_state(config))


def test_first_two_frames_are_the_memory_and_the_third_is_the_query():
    inputs = unpack(BATCH)
    np.testing.assert_allclose(inputs["query"], BATCH["images"][:, 2] / 255, atol=1e-6)
    np.testing.assert_allclose(inputs["memory_images"], BATCH["images"][:, :2] / 255, atol=1e-6)
    assert inputs["memory_maps"].shape == (4, 2, 16, 16, 1)
    assert float(inputs["memory_maps"].sum()) == 4 * 2 * 8 * 5
    np.testing.assert_array_equal(inputs["box"][0, 3:8, 2:10], 1)
    np.testing.assert_array_equal(inputs["mask"], BATCH["masks"][:, 2])


def test_metrics_hold_losses_norms_and_learning_rate():
    config = toy_config(**{"optimizer.warmup_steps": 5})
    step, state = start(config)
    before = jax.device_get(state.params)
    state, metrics = step(state, BATCH)
    after = jax.device_get(state.params)
    metrics = {name: float(value) for name, value in metrics.items()}
    parts = sum(metrics[f"loss_{name}"] for name in ("box", "mask", "refined"))
    assert metrics["loss"] == pytest.approx(parts, rel=1e-5)
    assert metrics["learning_rate"] == pytest.approx(RATE / 5)
    assert metrics["update_norm"] == pytest.approx(RATE / 5 * metrics["grad_norm"], rel=1e-5)
    assert metrics["update_norm"] == pytest.approx(distance(after, before), rel=1e-3)
    assert metrics["param_norm"] == pytest.approx(
        distance(after, jax.tree.map(np.zeros_like, after)), rel=1e-5
    )
    assert metrics["finite"] == 1
    assert all(0 <= metrics[f"J_{name}"] <= 1 for name in ("box", "mask", "refined"))


def test_grad_norm_is_measured_before_clipping():
    step, state = start(toy_config())
    _, free = step(state, BATCH)
    step, state = start(toy_config(**{"optimizer.clip_norm": 0.01}))
    _, clipped = step(state, BATCH)
    assert float(clipped["grad_norm"]) == pytest.approx(float(free["grad_norm"]), rel=1e-6)
    assert float(clipped["update_norm"]) == pytest.approx(RATE * 0.01, rel=1e-4)


def test_nonfinite_loss_freezes_the_state_at_the_last_good_step():
    config = toy_config(ema_decay=0.5, **{"optimizer.momentum": 0.9})
    step, state = start(config)
    state, metrics = step(state, BATCH)
    good = jax.device_get(state)
    assert float(metrics["finite"]) == 1
    for batch in (BLACK, BATCH):  # neither that step nor a later one changes anything
        state, metrics = step(state, batch)
        assert float(metrics["finite"]) == 0
        assert bool(state.halted)
        assert int(state.step) == 1
        frozen = jax.device_get(state.replace(halted=good.halted))
        jax.tree.map(np.testing.assert_array_equal, frozen, good)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_diagnose_finds_the_example_with_a_nonfinite_loss(accumulation):
    config = toy_config(grad_accumulation=accumulation)
    diagnose = parallel.parallelize(make_diagnose(Toy(), config))
    _, losses = diagnose(parallel.replicate(toy_state(config)), BLACK)
    for loss in losses.values():
        assert np.isfinite(loss).tolist() == [True, False, True, True]


def test_diagnosed_losses_are_those_of_the_step():
    """With random memory maps, synchronised statistics and micro-batches, on two devices."""
    config, model = make_config("miniature", 0), Miniature()
    config.loss.bootstrap = ()
    optimizer = make_optimizer(config.optimizer, 10)
    state = create_train_state(random_variables(variable_shapes(model)), optimizer, ema=True)
    state = jax.device_get(state.replace(ema_params=jax.tree.map(jnp.zeros_like, state.params)))
    batch = make_batch(0, 0, 0, 1)
    schedule = make_schedule(config.optimizer, 10)
    step = parallel.parallelize(make_train_step(model, optimizer, schedule, config))
    _, metrics = step(parallel.replicate(state), batch)
    for mode in parallel.WRAPPERS:
        diagnose = parallel.parallelize(make_diagnose(model, config), mode)
        _, losses = diagnose(parallel.replicate(state, mode), batch)
        for name, loss in losses.items():
            assert loss.shape == (16,)
            assert float(loss.mean()) == pytest.approx(float(metrics[f"loss_{name}"]), rel=1e-5)


def test_evaluation_uses_the_average_of_the_weights():
    config = toy_config(ema_decay=0.9)
    step, state = start(config)
    expected = jax.device_get(state.params)
    for k in range(3):
        state, _ = step(state, BATCH)
        decay = float(ema_decay_at(k, 0.9))
        expected = jax.tree.map(
            lambda a, p, d=decay: d * a + (1 - d) * np.asarray(p), expected, state.params
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.ema_params, expected
    )
    assert distance(state.ema_params, state.params) > 1e-3
    inspect, one = make_inspect(Toy()), parallel.local_copy(state)
    average, plain = (
        inspect(x, BATCH)[0]["mask"] for x in (one, one.replace(ema_params=one.params))
    )
    assert np.abs(average - plain).max() > 1e-3


class Featured(Toy):
    """A toy network whose frozen feature scales the logits."""

    def apply(self, variables, *args, **kwargs):
        outputs = super().apply(variables, *args, **kwargs)
        return jax.tree.map(lambda x: x * variables["frozen"]["scale"], outputs)


def test_frozen_features_reach_the_network_and_do_not_change():
    config = toy_config(ema_decay=0.5)
    optimizer, schedule = (make(config.optimizer, 10) for make in (make_optimizer, make_schedule))
    step = make_train_step(Featured(), optimizer, schedule, config)
    step, losses = parallel.parallelize(step), []
    for scale in (1, 3):
        variables = {"params": PARAMS, "batch_stats": {}, "frozen": {"scale": np.float32(scale)}}
        state = parallel.replicate(create_train_state(variables, optimizer, ema=True))
        for _ in range(2):
            state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
        assert float(state.variables["frozen"]["scale"]) == scale
        assert distance(state.params, PARAMS) > 0
    assert abs(losses[0] - losses[1]) > 0.01


def test_bootstrapping_follows_the_steps():
    settings = {"loss.bootstrap": (1, 3, 0.1), "optimizer.learning_rate": 1e-9}
    (step, state), losses = start(toy_config(**settings)), []
    for _ in range(4):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[1] * 1.05 < losses[2] < losses[3]


def primitives(jaxpr, names):
    """The equations of these primitives in a jaxpr, including nested ones."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in names:
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner, names)


def test_bfloat16_convolutions_have_half_precision_and_sensitive_operations_do_not():
    model = build_model({**TINY, "dtype": "bfloat16"})
    shapes = variable_shapes(model)

    def loss(params, batch_stats, batch):
        inputs = unpack(batch)
        variables = {"params": params, "batch_stats": batch_stats}
        forward = make_forward(model, toy_config())
        outputs, _ = forward(variables, inputs, jnp.zeros((), int), jnp.arange(4))
        return qmra_loss(outputs, make_targets(Toy(), inputs))[0]

    traced = jax.make_jaxpr(jax.value_and_grad(loss))(
        shapes["params"], shapes["batch_stats"], BATCH
    )
    # Softmaxes (of the memory read, maps and loss), sigmoids of BCA, roots of BatchNorm.
    sensitive = list(primitives(traced.jaxpr, {"exp", "log", "logistic", "rsqrt", "log1p"}))
    assert {e.primitive.name for e in sensitive} >= {"exp", "log", "logistic", "rsqrt"}
    assert {e.outvars[0].aval.dtype for e in sensitive} == {jnp.dtype("float32")}
    convolutions = list(primitives(traced.jaxpr, {"conv_general_dilated"}))
    assert {e.outvars[0].aval.dtype for e in convolutions} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in traced.out_avals} == {jnp.dtype("float32")}  # loss and gradients


def test_overflow_of_the_parameters_freezes_the_state():
    config = toy_config(**{"optimizer.learning_rate": 3e38})
    step, state = start(config)
    before = jax.device_get(state.params)
    state, metrics = step(state, BATCH)
    assert np.isfinite(float(metrics["loss"]))
    assert float(metrics["finite"]) == 0
    assert bool(state.halted)
    assert int(state.step) == 0
    assert distance(jax.device_get(state.params), before) == 0
