import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qmra_jax import parallel
from qmra_jax.errors import InputError
from qmra_jax.train_state import TrainState
from qmra_jax.train_step import make_train_step, unpack

RNG = np.random.default_rng(0)
BATCH = {
    "images": RNG.integers(0, 256, (4, 3, 16, 16, 3)).astype(np.uint8),
    "masks": RNG.integers(0, 2, (4, 3, 16, 16)).astype(np.uint8),
    "boxes": np.tile(np.array([2, 3, 8, 5], np.int32), (4, 3, 1)),
}


class Toy:
    """Stands for the network: logits from a colour's weight, so that a step compiles in no time."""

    def apply(self, variables, query, images, maps):
        w = variables["params"]["box_decoder"]
        seen = query @ w["rgb"] + images.mean((1, 4)) * maps.mean((1, 4)) * w["memory"]
        logits = jnp.stack([-seen, seen], axis=-1)
        return {"box": logits, "mask": 2 * logits, "refined": logits + 0.1}


PARAMS = {"box_decoder": {"rgb": jnp.array([0.3, -0.2, 0.5]), "memory": jnp.array(0.7)}}


def run(mode, devices, steps=3):
    """The parameters and losses after SGD on some of the devices."""
    optimizer = optax.sgd(0.5)
    step = make_train_step(Toy(), optimizer, optax.constant_schedule(0.5))
    params = jax.tree.map(jnp.array, PARAMS)  # the step consumes its state
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params))
    wrapped = parallel.parallelize(step, mode, devices)
    state, losses = parallel.replicate(state, devices), []
    for _ in range(steps):
        state, metrics = wrapped(state, BATCH)
        losses.append(float(metrics["loss"]))
    assert int(state.step) == steps
    return jax.device_get(state.params), losses


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_two_devices_learn_what_one_does(mode):
    assert len(jax.devices()) == 2
    params_one, losses_one = run("pmap", jax.devices()[:1])
    params_two, losses_two = run(mode, jax.devices())
    assert losses_two == pytest.approx(losses_one, rel=1e-6)
    for a, b in zip(jax.tree.leaves(params_two), jax.tree.leaves(params_one), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5)  # of float32 sums in another order
    assert losses_one[-1] < losses_one[0]


def test_memory_is_the_first_two_frames_with_their_boxes_and_the_third_is_the_query():
    inputs = unpack(BATCH)
    np.testing.assert_allclose(inputs["query"], BATCH["images"][:, 2] / 255, atol=1e-6)
    np.testing.assert_allclose(inputs["memory_images"], BATCH["images"][:, :2] / 255, atol=1e-6)
    assert inputs["memory_maps"].shape == (4, 2, 16, 16, 1)
    assert float(inputs["memory_maps"].sum()) == 4 * 2 * 8 * 5
    np.testing.assert_array_equal(inputs["box_map"][0, 3:8, 2:10], 1)
    np.testing.assert_array_equal(inputs["mask"], BATCH["masks"][:, 2])


def test_a_batch_that_the_devices_cannot_share_is_refused():
    with pytest.raises(InputError, match="batch_size 3 does not divide over 2 devices"):
        parallel.check_batch(3)


def test_an_unknown_wrapper_is_refused():
    with pytest.raises(InputError, match="parallel 'xmap': expected one of pmap, shard_map"):
        parallel.parallelize(lambda state, batch: (state, batch), "xmap")
