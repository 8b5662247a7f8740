import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from qmra_jax import build_model
from qmra_jax.network.batch_norm import BatchNorm
from tests.support.tiny import TINY, random_variables

torch = pytest.importorskip("torch", reason="compared with PyTorch's BatchNorm")

X = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
COTANGENT = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
VARIABLES = random_variables(
    jax.eval_shape(lambda: BatchNorm().init(jax.random.key(0), jnp.asarray(X)))
)


def ours(mode, count):
    """Output, gradient of x and updated statistics, with the batch split over `count` devices."""
    norm = BatchNorm(stats_axis="data")

    def step(x, cotangent):
        def loss(x):
            y, changed = norm.apply(VARIABLES, x, mutable=["batch_stats"])
            return (y * cotangent).sum(), (y, changed["batch_stats"])

        gradient, (y, stats) = jax.grad(loss, has_aux=True)(x)
        return y, gradient, stats

    if mode == "pmap":
        split = lambda x: x.reshape(count, -1, *x.shape[1:])  # noqa: E731
        mapped = jax.pmap(
            step, axis_name="data", out_axes=(0, 0, None), devices=jax.devices()[:count]
        )
        y, gradient, stats = mapped(split(X), split(COTANGENT))
        return y.reshape(X.shape), gradient.reshape(X.shape), stats
    mesh = Mesh(np.asarray(jax.devices()[:count]), ("data",))
    specs = {"in_specs": (P("data"), P("data")), "out_specs": (P("data"), P("data"), P())}
    return jax.jit(functools.partial(jax.shard_map, mesh=mesh, **specs)(step))(X, COTANGENT)


@pytest.mark.parametrize(("mode", "count"), [("pmap", 1), ("pmap", 2), ("shard_map", 2)])
def test_synchronised_batch_norm_is_pytorchs_over_the_whole_batch(mode, count):
    theirs = torch.nn.BatchNorm2d(7)
    params, stats = VARIABLES["params"], VARIABLES["batch_stats"]
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(params["scale"]))
        theirs.bias.copy_(torch.from_numpy(params["bias"]))
        theirs.running_mean.copy_(torch.from_numpy(stats["mean"]))
        theirs.running_var.copy_(torch.from_numpy(stats["var"]))
    x = torch.from_numpy(X).permute(0, 3, 1, 2).requires_grad_()
    expected = theirs(x)
    expected.backward(torch.from_numpy(COTANGENT).permute(0, 3, 1, 2))

    y, gradient, updated = ours(mode, count)
    np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), atol=2e-5)
    np.testing.assert_allclose(gradient, x.grad.permute(0, 2, 3, 1), atol=2e-5)
    np.testing.assert_allclose(updated["mean"], theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(updated["var"], theirs.running_var, rtol=1e-5)


def test_frozen_batch_norm_uses_and_keeps_the_stored_statistics():
    y, changed = BatchNorm().apply(VARIABLES, X, mutable=["batch_stats"])
    params, stats = VARIABLES["params"], VARIABLES["batch_stats"]
    expected = (X - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], stats)


def test_a_network_with_synchronised_batch_norm_infers_with_stored_statistics(
    tiny_model, tiny_variables
):
    image, box_map = X[:1, :4, :4, :3].repeat(4, 1).repeat(4, 2), np.zeros((1, 16, 16, 1))
    frozen = tiny_model.apply(tiny_variables, image, box_map, method="memorize")
    sync = build_model({**TINY, "batch_norm": "sync"})
    found = sync.apply(tiny_variables, image, box_map, method="memorize")
    jax.tree.map(np.testing.assert_array_equal, found, frozen)
