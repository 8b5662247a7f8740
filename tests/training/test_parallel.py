import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.training import parallel
from tests.support.toy import BATCH, PARAMS, toy_config, toy_state, toy_step


def run(mode, steps=3, **settings):
    """The parameters and losses after steps of SGD on two devices."""
    config = toy_config(**settings)
    step = parallel.parallelize(toy_step(config), mode)
    state, losses = parallel.replicate(toy_state(config), mode), []
    for _ in range(steps):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
    assert int(state.step) == steps
    return jax.device_get(state.params), losses


def test_micro_batches_are_equivalent_to_the_whole_batch():
    whole, losses = run("pmap")
    for mode in parallel.WRAPPERS:
        parts, losses_of_parts = run(mode, grad_accumulation=2)
        assert losses_of_parts == pytest.approx(losses, rel=1e-5)
        for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5)


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_replicated_state_is_whole_on_every_device(mode):
    state = parallel.replicate(PARAMS, mode)
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.is_fully_replicated
        assert leaf.sharding.device_set == set(jax.devices())
    copy = parallel.local_copy(state)
    jax.tree.map(np.testing.assert_array_equal, copy, PARAMS)
    (device,) = jax.tree.leaves(copy)[0].devices()
    assert device in jax.local_devices()
    again = parallel.replicate(state, mode, jax.devices()[:1])
    assert jax.tree.leaves(again)[0].devices() == {jax.devices()[0]}


def test_batch_is_split_in_the_order_of_processes():
    assert parallel.in_order(jax.devices()[::-1]) == jax.devices()
    first = parallel.parallelize(
        lambda state, batch: (
            state,
            jax.lax.psum(batch.sum() * (1 - jax.lax.axis_index("data")), "data"),
        ),
        "shard_map",
        jax.devices()[::-1],
    )(jnp.zeros(()), np.array([1.0, 20.0]))[1]
    assert float(first) == 1


def test_simulated_devices_wait_for_each_other_on_a_busy_machine():
    """One device is late by more than XLA's timeout, here set to a second, unless we raise it."""
    program = """
import os, time
import jax
import numpy as np
from qmra_jax.training import parallel

os.environ["XLA_FLAGS"] = os.environ.get("TIMEOUTS", "")
parallel.simulate_devices(2)

def late(x):
    time.sleep(3 * float(x[0]))
    return np.asarray(x)

def step(x):
    x = jax.pure_callback(late, jax.ShapeDtypeStruct((1,), np.float32), x)
    return jax.lax.psum(x, "data")

print(jax.pmap(step, axis_name="data")(np.array([[0.0], [1.0]], np.float32)).tolist())
"""
    terminate = "--xla_cpu_collective_call_terminate_timeout_seconds=1"
    warn = "--xla_cpu_collective_call_warn_stuck_timeout_seconds=1"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "TIMEOUTS": timeouts, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for timeouts in ("", f"{warn} {terminate}")
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, -6], errors
