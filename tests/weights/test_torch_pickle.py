"""Files of torch.save are read without PyTorch, and nothing in them is ever called."""

import collections
import os
import pickle
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.weights import torch_pickle

torch = pytest.importorskip("torch", reason="the files are written by PyTorch")


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    """torch.save in either format: object -> path."""

    def save(obj, name="weights.pth"):
        path = tmp_path / name
        torch.save(obj, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return save


def test_every_dtype_is_kept(save):
    dtypes = {
        torch.float64: np.float64,
        torch.float32: np.float32,
        torch.float16: np.float16,
        torch.bfloat16: ml_dtypes.bfloat16,
        torch.int64: np.int64,
        torch.uint8: np.uint8,
        torch.bool: np.bool_,
    }
    numbers = torch.arange(12).reshape(3, 4) * 3 % 7 - 2
    tensors = {str(dtype): numbers.to(dtype) for dtype in dtypes}
    state = torch_pickle.read(save(tensors))
    for torch_dtype, dtype in dtypes.items():
        array, tensor = state[str(torch_dtype)], tensors[str(torch_dtype)]
        assert array.dtype == dtype
        np.testing.assert_array_equal(array.astype(np.float64), tensor.double().numpy())


def test_views_are_read_as_arrays_of_their_own(save):
    whole = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    views = {
        "whole": whole,
        "transposed": whole.permute(2, 0, 1),
        "offset": whole[1:, 2],
        "stepped": whole[:, ::2, 1::3],
        "expanded": whole[:1].expand(2, 4, 5),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "empty": whole[:0],
        "scalar": whole[2, 3, 4],
    }
    state = torch_pickle.read(save(views))
    assert list(state) == list(views)
    for name, view in views.items():
        np.testing.assert_array_equal(state[name], view.numpy(), err_msg=name)
        assert state[name].flags.c_contiguous
    state["whole"][:] = 0  # the file stores one storage for all views
    assert state["offset"].max() == whole[1:, 2].max()


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_gives_its_state_dict(save, wrapper):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    checkpoint = {"epoch": 3, "lr": 0.1, "note": "best", "optimizer": {"step": [1]}}
    state = torch_pickle.read(save(checkpoint | {wrapper: module.state_dict()}))
    assert list(state) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(state[name], tensor.numpy())


def test_parameters_are_read_and_dataparallels_prefix_is_removed(save):
    state = collections.OrderedDict({"module.w": torch.nn.Parameter(torch.ones(2))})
    assert list(torch_pickle.read(save(state))) == ["w"]


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("obj", "named"),
    [
        (torch.ones(3), "ndarray"),
        ({"w": torch.ones(1), "epoch": 3}, "'epoch' of its 2 entries"),
        (torch.nn.Linear(2, 2), r"torch\.nn.*Linear.*state_dict\(\)"),
    ],
)
def test_other_objects_are_rejected(save, obj, named):
    with pytest.raises(InputError, match=named):
        torch_pickle.read(save(obj))


def test_a_malicious_file_is_rejected_and_nothing_of_it_runs(save, tmp_path):
    path = save({"w": torch.ones(1), "x": _Attack(tmp_path / "owned")})
    with pytest.raises(InputError, match=r"(posix|nt)\.mkdir"):
        torch_pickle.read(path)
    assert not (tmp_path / "owned").exists()


def test_a_file_cannot_change_how_the_next_one_is_read(save, tmp_path):
    """BUILD writes into any object on the stack, here the type of a storage."""
    path = tmp_path / "poison.pth"
    poison = b"\x80\x02ctorch\nFloatStorage\n}X\x05\0\0\0dtypeX\x03\0\0\0foosb."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", poison)
    with pytest.raises(InputError):
        torch_pickle.read(path)
    assert torch_pickle.read(save({"w": torch.ones(2)}))["w"].dtype == np.float32


def test_a_tensor_that_reaches_outside_its_storage_is_rejected(tmp_path):
    """Otherwise it would expose the memory after the storage."""
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save({"w": torch.zeros(4)}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                shape = b"K\x04\x85"  # (4,)
                assert content.count(shape) == 1
                content = content.replace(shape, b"K\x7f\x85")
            target.writestr(name, content)
    with pytest.raises(InputError, match=r"\(127,\)"):
        torch_pickle.read(bad)


def test_truncated_and_altered_files_raise_no_other_error(save, tmp_path):
    content = save({"w": torch.arange(6.0), "n": torch.tensor(3)}).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(content), 23):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            torch_pickle.read(path)
    rng = np.random.default_rng(0)
    for _ in range(300):
        altered = bytearray(content)
        altered[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(altered)
        try:
            state = torch_pickle.read(path)
        except InputError:
            continue
        assert all(isinstance(array, np.ndarray) for array in state.values())


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"w": 1}), b"PK\x03\x04"])
def test_a_file_of_another_kind_is_rejected(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth: not a file of torch\.save"):
        torch_pickle.read(path)


def test_pytorch_is_not_imported(save):
    path = save({"w": torch.ones(2)})
    code = (
        "import sys; sys.modules['torch'] = None\n"  # importing it would raise
        "from qmra_jax.weights import torch_pickle\n"
        f"print(torch_pickle.read({str(path)!r})['w'].sum())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "2.0"
