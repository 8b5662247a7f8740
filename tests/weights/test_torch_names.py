"""Weights go to PyTorch's names and layouts and back, exactly."""

import jax
import numpy as np
import pytest

from qmra_jax import weights
from qmra_jax.errors import InputError
from tests.support.tiny import TINY, assert_same_tree


@pytest.fixture
def variables(tiny_variables):
    return tiny_variables


def test_a_round_trip_through_torch_names_changes_nothing(variables):
    assert_same_tree(weights.from_torch(weights.to_torch(variables), TINY), variables)


def test_names_and_layouts_are_torchs(variables):
    state = weights.to_torch(variables)
    params, stats = variables["params"], variables["batch_stats"]
    downsample = "downsample_1"
    expected = {
        "memory_encoder.conv1.weight": params["memory_encoder"]["conv1"]["kernel"].transpose(
            3, 2, 0, 1
        ),
        "query_encoder.bn1.weight": params["query_encoder"]["bn1"]["scale"],
        "query_encoder.bn1.running_mean": stats["query_encoder"]["bn1"]["mean"],
        "query_encoder.layer2.0.downsample.1.running_var": stats["query_encoder"]["layer2_0"][
            downsample
        ]["var"],
        "query_encoder.layer3.1.conv2.weight": params["query_encoder"]["layer3_1"]["conv2"][
            "kernel"
        ].transpose(3, 2, 0, 1),
        "qma1.memory_kv.key.weight": params["qma1"]["memory_kv"]["key"]["kernel"].transpose(
            3, 2, 0, 1
        ),
        "qma2.fc1.weight": params["qma2"]["fc1"]["kernel"].T,
        "qma2.fc1.bias": params["qma2"]["fc1"]["bias"],
        "box_decoder.refine3.skip_block.conv1.weight": params["box_decoder"]["refine3"][
            "skip_block"
        ]["conv1"]["kernel"].transpose(3, 2, 0, 1),
        "crm.coord_conv.bias": params["crm"]["coord_conv"]["bias"],
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)
    counters = {k: v for k, v in state.items() if k.endswith("num_batches_tracked")}
    assert len(counters) == sum(k.endswith("running_var") for k in state)
    assert all(v.dtype == np.int64 and v.shape == () and v == 0 for v in counters.values())


def test_exported_arrays_are_copies_that_torch_may_write_into(variables):
    state = weights.to_torch(variables)
    assert all(
        a.flags.c_contiguous and a.flags.writeable and a.base is None for a in state.values()
    )


def test_from_torch_takes_tensors_and_half_precision_and_needs_no_counters(variables):
    torch = pytest.importorskip("torch")
    state = {
        name: torch.from_numpy(array).half()
        for name, array in weights.to_torch(variables).items()
        if not name.endswith("num_batches_tracked")
    }
    rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), variables)
    assert_same_tree(weights.from_torch(state, TINY), rounded)


def test_from_torch_names_every_missing_unexpected_and_misshapen_key(variables):
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


def test_what_is_no_array_of_numbers_is_named(variables):
    state = weights.to_torch(variables) | {"qma1.fc1.bias": "none"}
    with pytest.raises(InputError, match=r"qma1\.fc1\.bias: a str"):
        weights.from_torch(state, TINY)


def test_to_torch_refuses_what_are_no_variables(variables):
    with pytest.raises(InputError, match="expected params and batch_stats"):
        weights.to_torch(variables["params"])
