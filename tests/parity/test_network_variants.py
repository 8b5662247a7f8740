"""The variants against PyTorch: same weights, same outputs, same memory of the frame.

Run op by op, so that all variants share the compiled operations.
"""

import jax
import numpy as np
import pytest

from qmra_jax import build_model, weights
from qmra_jax.network.build import variable_shapes
from tests.support.tiny import TINY, random_variables
from tests.support.toy_dinov2 import TOY_SPEC

torch = pytest.importorskip("torch", reason="the variants' twins are written in PyTorch")
from tests.support.torch_variants import Variant  # noqa: E402

VARIANTS: dict[str, dict] = {
    "whole": {},
    "1stage": {"stages": 1},
    "2stage_no_align": {"align": "mask"},
    "2stage_no_siam": {"siamese": False},
    "no_qma": {"reader": "none", "aggregator": "none"},
    "no_bca": {"aggregator": "none"},
    "no_crm": {"refine": "none"},
    "crm_no_coord": {"refine": "crm_no_coord"},
    "unscaled": {"reader": "dot:scale=False"},
    "l2": {"reader": "l2"},
    "cosine": {"reader": "cosine"},
    "topk": {"reader": "topk:k=4"},
    "kernel": {"reader": "kernel:sigma=1.5"},
    "query_only": {"aggregator": "query_only"},
    "memory_only": {"aggregator": "memory_only"},
    "spatial": {"aggregator": "spatial"},
    "features": {"features": TOY_SPEC},
}

RNG = np.random.default_rng(0)
QUERY = RNG.random((1, 32, 48, 3), np.float32)
IMAGES = RNG.random((2, 32, 48, 3), np.float32)  # of the memory's frames
MAPS = np.zeros((2, 32, 48, 1), np.float32)
MAPS[0, 8:20, 10:30] = MAPS[1, 12:30, 14:40] = 1


def ours(variables, values):
    """Outputs and memory arrays by name, channels first."""
    model = build_model({**TINY, **values})

    def memorize_and_answer(module, query, images, maps):
        frames = module.memorize(images, maps)  # [t, 1, H, W, c]
        memory = jax.tree.map(lambda x: x.swapaxes(0, 1), frames)
        return module.answer(query, memory)

    with jax.default_matmul_precision("float32"):
        answer = model.apply(variables, QUERY, IMAGES, MAPS, method=memorize_and_answer)
    arrays = {**answer.outputs, **vars(answer.memory)}
    return {name: np.moveaxis(x, -1, -3) for name, x in arrays.items() if x is not None}


def theirs(variables, values):
    twin = Variant(**TINY, **values).eval()
    state = {name: torch.from_numpy(x) for name, x in weights.to_torch(variables).items()}
    twin.load_state_dict(state, strict=True)
    query, images, maps = (torch.from_numpy(x).movedim(-1, -3) for x in (QUERY, IMAGES, MAPS))
    with torch.inference_mode():
        outputs, memory = twin.predict(query, twin.memorize(images[None], maps[None]))
    arrays = {f"{kind}{i}": x for i, kv in enumerate(memory, 1) for kind, x in kv._asdict().items()}
    return {name: x.numpy() for name, x in {**outputs, **arrays}.items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Convolutions this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def distance(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module")
def whole(one_thread):
    return theirs(random_variables(variable_shapes(build_model(TINY))), {})


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variants_outputs_and_memory_are_its_twins(name, whole):
    values = VARIANTS[name]
    variables = random_variables(variable_shapes(build_model({**TINY, **values})))
    actual, expected = ours(variables, values), theirs(variables, values)
    assert actual.keys() <= expected.keys()
    for key, array in actual.items():
        assert distance(array, expected[key]) <= 1e-4, key
    # The variant's twin differs from the whole network by more than the tolerance.
    assert name == "whole" or max(distance(expected[key], whole[key]) for key in actual) > 1e-3
