"""The JAX network against its PyTorch twin: same weights, same outputs, same gradients."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import common, small
from qmra_jax import build_model, weights
from qmra_jax.boxes import box_to_map, mask_to_box
from qmra_jax.training.losses import qmra_loss
from tests.support.tiny import TINY
from tests.support.toy_dinov2 import TOY_SPEC

torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
from benchmarks import torch_qmra  # noqa: E402

FEATURES = {"width": 24, "depth": 2, "heads": 2, "grid": 5}
MODELS = {
    "small": small.get_config().model,
    "paper": common.get_config().model,
    "features": {**TINY, "features": TOY_SPEC},
}
TWINS = torch_qmra.SIZES | {"features": {**TINY, "features": FEATURES}}
PARAMETERS = {"small": 7_867_430, "paper": 53_235_782, "features": 5_665_714}

BATCH, FRAMES, HEIGHT, WIDTH = 2, 2, 48, 80
DRAWS = 3


@pytest.fixture(scope="module", params=MODELS)
def both(request):
    """Outputs and gradients of both implementations, from the same weights and batches."""
    config = MODELS[request.param]
    twin = torch_qmra.QMRA(**TWINS[request.param])
    rng = np.random.default_rng(0)
    variables = weights.from_torch(random_state(twin.state_dict(), rng), config)
    state = weights.to_torch(variables)
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    twin.train()  # must not change frozen BatchNorm
    module = build_model(config)

    @jax.jit
    def ours(variables, query, memory_images, memory_maps, mask, box_map):
        def loss(params):
            outputs = module.apply(
                {**variables, "params": params}, query, memory_images, memory_maps
            )
            targets = {"box": box_map, "mask": mask, "refined": mask}
            return qmra_loss(outputs, targets)[0], outputs

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    draws = []
    for _ in range(DRAWS):
        query, memory_images, memory_maps, mask, box_map = batch = random_batch(rng)
        with jax.default_matmul_precision("float32"):
            (loss, outputs), gradients = ours(variables, *batch)
        twin_outputs = twin(*map(channels_first, (query, memory_images, memory_maps)))
        twin_loss = torch_qmra.qmra_loss(
            twin_outputs, torch.from_numpy(mask), torch.from_numpy(box_map)
        )
        twin.zero_grad()
        twin_loss.backward()
        draws.append(
            SimpleNamespace(
                outputs={name: np.asarray(x) for name, x in outputs.items()},
                twin_outputs={
                    k: x.detach().movedim(1, -1).numpy() for k, x in twin_outputs.items()
                },
                loss=float(loss),
                twin_loss=twin_loss.item(),
                gradients=weights.to_torch({"params": gradients}),
                twin_gradients={name: np.asarray(p.grad) for name, p in trained(twin)},
            )
        )
    parameters = PARAMETERS[request.param]
    return SimpleNamespace(parameters=parameters, variables=variables, twin=twin, draws=draws)


def test_parameter_counts_agree(both):
    ours = sum(x.size for x in jax.tree.leaves(both.variables["params"]))
    assert ours == sum(p.numel() for _, p in trained(both.twin)) == both.parameters


@pytest.mark.parametrize("name", ["box", "mask", "refined"])
def test_the_outputs_agree(both, name):
    for draw in both.draws:
        ours, twin = draw.outputs[name], draw.twin_outputs[name]
        assert ours.shape == (BATCH, HEIGHT, WIDTH, 2)
        assert ours.dtype == np.float32
        assert np.std(twin) > 0.1  # equal logits would prove nothing
        assert np.abs(ours - twin).max() <= 1e-4 * np.abs(twin).max()


def test_the_loss_agrees(both):
    for draw in both.draws:
        assert draw.loss == pytest.approx(draw.twin_loss, rel=1e-5)


def test_the_gradient_of_every_parameter_agrees(both):
    """On at least one batch: units within rounding of a ReLU's kink may differ on the others."""
    assert all(draw.gradients.keys() == draw.twin_gradients.keys() for draw in both.draws)
    for name in both.draws[0].gradients:
        errors = []
        for draw in both.draws:
            ours, twin = draw.gradients[name], draw.twin_gradients[name]
            scale = np.linalg.norm(twin)
            if name.endswith(
                "memory_kv.key.bias"
            ):  # cancelled by the softmax: both are rounding errors
                scale = np.linalg.norm(draw.twin_gradients[name.replace("memory_kv", "query_kv")])
            errors.append(np.linalg.norm(ours - twin) / scale)
        assert min(errors) <= 1e-3, name


def trained(twin):
    """The twin's (name, parameter) pairs without the frozen features."""
    return [(name, p) for name, p in twin.named_parameters() if p.requires_grad]


def random_batch(rng):
    """Query, memory images and maps, the query's mask and its filled box."""
    images = rng.random((BATCH, FRAMES + 1, HEIGHT, WIDTH, 3), np.float32)
    masks = np.zeros(images.shape[:-1], np.float32)
    masks[0, :, 8:30, 20:50] = 1
    masks[1, :, 20:41, 3:17] = 1
    masks *= rng.random(masks.shape) < 0.7
    maps = box_to_map(mask_to_box(masks), HEIGHT, WIDTH)
    return images[:, -1], images[:, :-1], maps[:, :-1, ..., None], masks[:, -1], maps[:, -1]


def random_state(like, rng):
    """Random weights at a trained network's scale: activations neither vanish nor explode, and
    biases and BatchNorm statistics differ from their initial values."""

    def draw(name, shape):
        if name.endswith("num_batches_tracked"):
            return np.zeros(shape, np.int64)
        if name.endswith("running_var"):
            return rng.uniform(0.5, 2, shape)
        if name.endswith("running_mean"):
            return rng.normal(0, 0.2, shape)
        if name.endswith("bias"):
            return rng.normal(0, 0.1, shape)
        if len(shape) == 1:  # a BatchNorm's scale, low at the end of a residual branch
            return rng.uniform(0.2, 0.6, shape) if ".bn3" in name else rng.uniform(0.5, 1, shape)
        return rng.normal(0, np.sqrt(1.5 / np.prod(shape[1:])), shape)

    return {
        name: draw(name, tuple(tensor.shape)).astype(
            np.int64 if name.endswith("num_batches_tracked") else np.float32
        )
        for name, tensor in like.items()
    }


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))
