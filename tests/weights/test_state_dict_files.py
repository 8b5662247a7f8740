"""A state dict is read from every kind of file that holds one."""

import numpy as np
import pytest
import safetensors.numpy

from qmra_jax import weights
from qmra_jax.errors import InputError


def test_a_state_dict_is_read_from_every_kind_of_file(tmp_path):
    state: dict[str, np.ndarray] = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.bias": np.ones(2),
    }
    safetensors.numpy.save_file(state, tmp_path / "state.safetensors")
    np.savez(tmp_path / "state.npz", **state)  # type: ignore[arg-type]
    (tmp_path / "folder").mkdir()
    for name, array in state.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    for name in ("state.safetensors", "state.npz", "folder"):
        found = weights.read_state(tmp_path / name)
        assert found.keys() == state.keys()
        for key, array in state.items():
            assert found[key].dtype == array.dtype
            np.testing.assert_array_equal(found[key], array)


def test_a_file_that_holds_no_state_dict_is_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "objects.npz").read_bytes()[:40])
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.h5").touch()
    for name, message in {
        "objects.npz": "not an .npz of arrays",
        "damaged.npz": "not an .npz of arrays",
        "": "objects.npy: not an .npy array",
        "empty": "without .npy files",
        "weights.h5": "not a weights file by its name; expected one of .safetensors",
        "absent.npz": "no such weights file",
    }.items():
        with pytest.raises(InputError, match=message):
            weights.read_state(tmp_path / name)
