"""Every variant, of Table 3 and from other papers, trains, propagates and is saved.

Run op by op, so that all variants share the compiled operations.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax import Propagator, build_model, weights
from qmra_jax.errors import InputError
from qmra_jax.network.aggregation import AGGREGATORS
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.memory_read import READERS
from qmra_jax.network.priors import rectified_prior
from qmra_jax.network.refinement import REFINERS
from qmra_jax.training import parallel
from qmra_jax.training.losses import qmra_loss
from qmra_jax.training.optimizer import make_optimizer, make_schedule
from qmra_jax.training.train_state import create_train_state
from qmra_jax.training.train_step import make_train_step
from qmra_jax.weights.stm import STM_MODEL as STM
from tests.support.tiny import TINY, assert_same_tree, random_variables
from tests.support.toy import BATCH, toy_config
from tests.support.toy_dinov2 import TOY_SPEC

VARIANTS = {
    "1stage": {"stages": 1},
    "2stage_no_align": {"align": "mask"},
    "2stage_no_siam": {"siamese": False},
    "no_qma": {"reader": "none", "aggregator": "none"},
    **{f"reader_{name}": {"reader": name} for name in READERS if name != "dot"},
    **{f"aggregator_{name}": {"aggregator": name} for name in AGGREGATORS if name != "bca"},
    **{f"refine_{name}": {"refine": name} for name in REFINERS if name != "crm"},
    "prior_rectified": {"prior": "rectified"},
    "features": {"features": TOY_SPEC},
    "stm": STM,
}
RNG = np.random.default_rng(0)
QUERY = RNG.random((1, 32, 48, 3), np.float32)
IMAGES = RNG.random((1, 2, 32, 48, 3), np.float32)
MAPS = np.zeros((1, 2, 32, 48, 1), np.float32)
MAPS[:, :, 8:20, 10:30] = 1
FRAMES = RNG.integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


def make(**values):
    model = build_model({**TINY, **values})
    return model, random_variables(variable_shapes(model))


@pytest.fixture(scope="module")
def full():
    return make()


# Variants that change more than one function; the others take minutes and are marked slow.
STEPS = ("1stage", "2stage_no_align", "2stage_no_siam", "no_qma")
STEPS += ("reader_topk", "refine_none", "stm")
EACH = [pytest.param(n, marks=() if n in STEPS else pytest.mark.slow) for n in VARIANTS]


@pytest.mark.parametrize("name", EACH)
def test_a_gradient_step_lowers_every_variants_loss(name):
    model, variables = make(**VARIANTS[name])
    labels = {"mask": MAPS[:, 0, ..., 0], "box": MAPS[:, 1, ..., 0]}

    def loss(params):
        outputs = model.apply({**variables, "params": params}, QUERY, IMAGES, MAPS)
        assert list(outputs) == list(model.targets)
        return qmra_loss(outputs, {n: labels[kind] for n, kind in model.targets.items()})[0]

    before, gradient = jax.value_and_grad(loss)(variables["params"])
    squares = sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))
    step = 0.01 * before / squares  # lowers the loss by 1% to first order
    after = loss(jax.tree.map(lambda p, g: p - step * g, variables["params"], gradient))
    assert 0.97 * before < after < 0.998 * before


@pytest.mark.parametrize("name", EACH)
def test_every_variant_propagates_and_is_saved(name, tmp_path):
    model, variables = make(**VARIANTS[name])
    weights.save(tmp_path / "v.safetensors", variables, {**TINY, **VARIANTS[name]})
    module, loaded, _ = weights.load(tmp_path / "v.safetensors")
    assert module == model
    assert_same_tree(loaded, variables)
    with jax.disable_jit():
        propagator = Propagator(module, loaded)
        propagator.start(FRAMES[0], [[10, 8, 20, 12]])
        result = propagator.step(FRAMES[1])
    assert result.boxes.shape == (1, 4)
    assert np.isfinite(result.probabilities).all()


# tests/parity/test_network_variants.py compares outputs and memory with PyTorch.


def test_stage_2_and_the_memory_use_the_prior_of_stage_1s_map():
    model, variables = make(prior="rectified")
    memory = model.apply(variables, IMAGES[:, 0], MAPS[:, 0], method="memorize")
    answer = model.apply(variables, QUERY, memory, method="answer")
    rectified, soft = (
        model.apply(variables, QUERY, box, method="memorize").value1
        for box in (rectified_prior(answer.box), answer.box)
    )
    np.testing.assert_allclose(answer.memory.value1, rectified, atol=1e-5)
    assert np.abs(answer.memory.value1 - soft).max() > 1e-3


def test_without_alignment_stage_1_predicts_the_mask_that_stage_2_takes(full):
    model, variables = make(align="mask")
    assert model.targets == {"box": "mask", "mask": "mask", "refined": "mask"}
    assert full[0].targets == {"box": "box", "mask": "mask", "refined": "mask"}
    memory = model.apply(variables, IMAGES[:, 0], MAPS[:, 0], method="memorize")
    given = model.apply(variables, QUERY, memory, None, MAPS[:, 1], method="answer")
    predicted = model.apply(variables, QUERY, memory, method="answer")
    # A given box is stored in the memory, but stage 2 takes the predicted mask.
    np.testing.assert_allclose(given.logits, predicted.logits, atol=1e-6)
    with_box = full[0].apply(full[1], QUERY, memory, None, MAPS[:, 1], method="answer")
    assert np.abs(with_box.logits - predicted.logits).max() > 1e-3


def test_stms_keys_are_3x3_and_its_memory_holds_the_given_mask():
    model, variables = make(**STM)
    assert variables["params"]["qma1"]["memory_kv"]["key"]["kernel"].shape[:2] == (3, 3)
    assert model.remembers == "mask"
    mask = np.zeros((32, 48), bool)
    mask[8:20, 10:30] = RNG.random((12, 20)) > 0.5
    mask[8, 10] = mask[19, 29] = True  # same tight box
    with jax.disable_jit():
        results = []
        for module in (model, make(stages=1)[0]):
            weights_of = random_variables(variable_shapes(module))
            for prompt in ({"masks": mask}, {"boxes": [[10, 8, 20, 12]]}):
                results.append(
                    Propagator(module, weights_of).start(FRAMES[0], **prompt).probabilities
                )
    assert np.abs(results[0] - results[1]).max() > 1e-4
    np.testing.assert_array_equal(results[2], results[3])


def test_without_extra_frames_the_memory_is_the_first_and_the_previous_frame(full):
    def last(**options):
        with jax.disable_jit():
            propagator = Propagator(*full, interval=1, **options)
            propagator.start(FRAMES[0], [[10, 8, 20, 12]])
            for frame in (FRAMES[1], FRAMES[2], FRAMES[1]):
                result = propagator.step(frame)
        return result.probabilities

    np.testing.assert_array_equal(last(extra_frames=False), last(max_memory=2))
    assert np.abs(last(extra_frames=False) - last()).max() > 1e-5
    with pytest.raises(InputError, match="max_memory 5"):
        Propagator(*full, max_memory=5, extra_frames=False)


@pytest.mark.parametrize("values", [{"stages": 1}, {"align": "mask"}, {"refine": "none"}, STM])
def test_the_train_step_reports_the_variants_outputs(values):
    config = toy_config()
    model = build_model({**TINY, **values})
    optimizer = make_optimizer(config.optimizer, 10)
    step = make_train_step(model, optimizer, make_schedule(config.optimizer, 10), config)
    make_state = functools.partial(create_train_state, optimizer=optimizer)
    state = jax.eval_shape(make_state, variable_shapes(model))
    mapped = parallel.parallelize(step, "shard_map", jax.devices()[:1])
    _, metrics = jax.eval_shape(mapped, state, BATCH)
    for kind in ("loss", "J"):
        assert {
            name.removeprefix(f"{kind}_") for name in metrics if name.startswith(f"{kind}_")
        } == set(model.targets)
