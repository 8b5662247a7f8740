import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from qmra_jax import weights
from qmra_jax.errors import InputError


def test_a_state_dict_is_read_from_every_format(tmp_path):
    state = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2)}
    half = {"half": np.ones(2, ml_dtypes.bfloat16)}  # not a dtype of .npy
    safetensors.numpy.save_file(state | half, tmp_path / "state.safetensors")
    np.savez(tmp_path / "state.npz", **state)
    (tmp_path / "folder").mkdir()
    for name, array in state.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    for name, expected in (
        ("state.safetensors", state | half),
        ("state.npz", state),
        ("folder", state),
    ):
        actual = weights.read_state(tmp_path / name)
        assert actual.keys() == expected.keys()
        for key, array in expected.items():
            assert actual[key].dtype == array.dtype
            np.testing.assert_array_equal(actual[key], array)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("objects.npz", r"objects\.npz"),
        ("damaged.npz", r"damaged\.npz"),
        ("", r"objects\.npy"),
        ("empty", "empty: .*npy"),
        ("weights.h5", r"weights\.h5: .*\.safetensors"),
        ("absent.npz", r"absent\.npz"),
    ],
)
def test_a_file_without_a_state_dict_is_rejected(tmp_path, name, named):
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "objects.npz").read_bytes()[:40])
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.h5").touch()
    with pytest.raises(InputError, match=named):
        weights.read_state(tmp_path / name)
