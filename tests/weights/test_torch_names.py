"""Conversion to PyTorch's names and layouts and back."""

import functools
import operator

import jax
import numpy as np
import pytest

from qmra_jax import weights
from qmra_jax.errors import InputError
from tests.support.tiny import TINY, assert_same_tree


@pytest.fixture
def variables(tiny_variables):
    return tiny_variables


def test_a_round_trip_changes_nothing(variables):
    assert_same_tree(weights.from_torch(weights.to_torch(variables), TINY), variables)


@pytest.mark.parametrize(
    ("name", "path", "axes"),
    [
        ("memory_encoder.conv1.weight", "params memory_encoder conv1 kernel", (3, 2, 0, 1)),
        ("query_encoder.bn1.weight", "params query_encoder bn1 scale", (0,)),
        ("query_encoder.bn1.running_mean", "batch_stats query_encoder bn1 mean", (0,)),
        (
            "query_encoder.layer2.0.downsample.1.running_var",
            "batch_stats query_encoder layer2_0 downsample_1 var",
            (0,),
        ),
        (
            "query_encoder.layer3.1.conv2.weight",
            "params query_encoder layer3_1 conv2 kernel",
            (3, 2, 0, 1),
        ),
        ("qma1.memory_kv.key.weight", "params qma1 memory_kv key kernel", (3, 2, 0, 1)),
        ("qma2.fc1.weight", "params qma2 fc1 kernel", (1, 0)),
        ("qma2.fc1.bias", "params qma2 fc1 bias", (0,)),
        (
            "box_decoder.refine3.skip_block.conv1.weight",
            "params box_decoder refine3 skip_block conv1 kernel",
            (3, 2, 0, 1),
        ),
        ("crm.coord_conv.bias", "params crm coord_conv bias", (0,)),
    ],
)
def test_names_and_layouts_are_torchs(variables, name, path, axes):
    leaf = functools.reduce(operator.getitem, path.split(), variables)
    np.testing.assert_array_equal(weights.to_torch(variables)[name], leaf.transpose(axes))


def test_every_batch_norm_has_a_counter(variables):
    state = weights.to_torch(variables)
    counters = {k: v for k, v in state.items() if k.endswith("num_batches_tracked")}
    assert len(counters) == sum(k.endswith("running_var") for k in state)
    assert all(v.dtype == np.int64 and v.shape == () and v == 0 for v in counters.values())


def test_exported_arrays_are_writable_copies(variables):
    for array in weights.to_torch(variables).values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.base is None


def test_from_torch_takes_half_precision_tensors_and_needs_no_counters(variables):
    torch = pytest.importorskip("torch")
    state = {
        name: torch.from_numpy(array).half()
        for name, array in weights.to_torch(variables).items()
        if not name.endswith("num_batches_tracked")
    }
    rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), variables)
    assert_same_tree(weights.from_torch(state, TINY), rounded)


def test_from_torch_names_every_missing_unexpected_and_misshapen_array(variables):
    state = weights.to_torch(variables)
    missing = [name for name in state if name.startswith("crm.")]
    for name in missing:
        del state[name]
    unexpected = [f"head.{i}" for i in range(20)] + ["crm.num_batches_tracked"]
    state |= {name: np.zeros((3, i + 1)) for i, name in enumerate(unexpected)}
    state["qma1.fc1.weight"] = state["qma1.fc1.weight"].T
    state["box_decoder.pred.bias"] = np.zeros(5)
    with pytest.raises(InputError) as caught:
        weights.from_torch(state, TINY)
    message = str(caught.value)
    for name in missing + unexpected:
        assert f"{name} [" in message
    assert "6 missing: crm.box_conv.bias [32], crm.box_conv.weight [32,33,1,1]" in message
    assert "21 unexpected: crm.num_batches_tracked [3,21], head.0 [3,1]" in message
    assert "2 misshapen: box_decoder.pred.bias is [5], expected [2]" in message
    assert "qma1.fc1.weight is [32,2], expected [2,32]" in message
    assert "\n" not in message


def test_values_that_are_not_numbers_are_rejected(variables):
    state = weights.to_torch(variables) | {"qma1.fc1.bias": "none"}
    with pytest.raises(InputError, match=r"qma1\.fc1\.bias: a str"):
        weights.from_torch(state, TINY)


def test_to_torch_rejects_other_collections(variables):
    with pytest.raises(InputError, match="params and batch_stats"):
        weights.to_torch(variables["params"])
