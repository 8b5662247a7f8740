"""Reads state dicts, torch name -> array, from several file formats; writes safetensors."""

import contextlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save as serialize

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole
from qmra_jax.weights import torch_pickle

COUNTER = "num_batches_tracked"  # of a BatchNorm; may be missing
SCALE = "_scale"  # suffix of the name of an int8 array's scale

# dtypes in which weights may be stored.
STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def read_state(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state dict; the file's suffix determines the format.

    Args:
      path: `.safetensors`; `.pth`, `.pt` or `.bin` of `torch.save` (without PyTorch, see
        `torch_pickle`); `.npz`; or a folder of `.npy` files, whose stems are the names.

    Raises:
      InputError: if the file is missing, damaged, or of another format.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    _check_exists(path)
    readers = {
        ".safetensors": read_safetensors,
        ".pth": torch_pickle.read,
        ".pt": torch_pickle.read,
        ".bin": torch_pickle.read,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise InputError(
            f"{path}: expected a weights file, one of {', '.join(readers)}, or a folder of .npy"
        )
    return readers[path.suffix](path)


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, in their stored dtypes.

    Raises:
      InputError: if it is missing or damaged.
    """
    with _open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a .safetensors file, without reading its tensors.

    Raises:
      InputError: if it is missing or damaged.
    """
    with _open_safetensors(path) as file:
        return file.metadata() or {}


def write_safetensors(
    path: str | os.PathLike,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> None:
    """Writes a .safetensors file atomically.

    Raises:
      InputError: if the suffix is another, or the file exists and `overwrite` is not set.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    with written_whole(path) as part:
        part.write_bytes(serialize(dict(state), metadata=dict(metadata)))


def cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """Casts a float array to "float32", "float16" or "bfloat16"; int64 counters are kept.

    Raises:
      InputError: if the dtype is another, or a number overflows in it; the message has `name`.
    """
    if dtype not in STORED:
        raise InputError(f"dtype {dtype!r}: expected one of {', '.join(STORED)}")
    if array.dtype == np.int64:  # num_batches_tracked
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(STORED[dtype])
    if np.isinf(stored).any() and not np.isinf(array).any():
        largest = np.abs(array).max()
        raise InputError(
            f"{name} reaches {largest:g}, too large for {dtype}; use bfloat16 or float32"
        )
    return stored


def to_int8(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Quantizes float arrays in PyTorch's layout to int8, with a scale per output channel.

    Returns:
      A matrix `[out, ...]` as int8 in [-127, 127] under its name and a float32 scale
      `[out, 1, ...]` under the name with the suffix `_scale`; their product is the matrix, rounded
      by at most half the scale. Positions `[1, n, c]` have a scale `[1, n, 1]`. Vectors as float16.
    """
    stored = {}
    for name, array in state.items():
        if array.squeeze().ndim < 2:
            stored[name] = cast(name, array, "float16")
            continue
        channel = 1 if array.shape[0] == 1 else 0
        axes = tuple(axis for axis in range(array.ndim) if axis != channel)
        scale = np.abs(array).max(axes, keepdims=True).astype(np.float32) / 127
        scale[scale == 0] = 1
        stored[name] = np.rint(array / scale).astype(np.int8)
        stored[name + SCALE] = scale
    return stored


def from_int8(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Multiplies each int8 array with its scale, to float32; other arrays are kept."""
    arrays = dict(state)
    for name in state:
        if name + SCALE in state:
            arrays[name] = arrays[name] * arrays.pop(name + SCALE)
    return arrays


def check_target(path: str | os.PathLike, *, overwrite: bool) -> None:
    """Raises `InputError` unless a .safetensors file may be written there."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected a name ending in .safetensors")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name, or allow overwriting")


def check_state(
    state: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    *,
    what: str,
    examples: int | None = None,
) -> None:
    """Checks names and shapes; the `num_batches_tracked` counters are optional.

    Args:
      state: name -> array.
      expected: name -> shape.
      what: `state` in the message.
      examples: maximum number of names of a kind in the message; None for all.

    Raises:
      InputError: naming missing, unexpected and misshapen arrays.
    """
    optional = {k.replace("running_mean", COUNTER) for k in expected if k.endswith("running_mean")}
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys() - optional)
    shared = sorted(expected.keys() & state.keys())
    problems = {
        "missing": [f"{k} {_text(expected[k])}" for k in missing],
        "unexpected": [f"{k} {_text(state[k].shape)}" for k in unexpected],
        "misshapen": [
            f"{k} is {_text(state[k].shape)}, expected {_text(expected[k])}"
            for k in shared
            if state[k].shape != expected[k]
        ],
    }
    listed = []
    for kind, names in problems.items():
        if names:
            shown = names[:examples]
            more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
            listed.append(f"{len(names)} {kind}: {', '.join(shown)}{more}")
    if listed:
        raise InputError(f"{what}: not the weights of this model: {'; '.join(listed)}")


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such weights file")


@contextlib.contextmanager
def _damage_is_input_error(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not {kind}, or damaged ({error}); fetch it again") from error


@contextlib.contextmanager
def _open_safetensors(path: str | os.PathLike) -> Iterator[safetensors.safe_open]:
    path = Path(path)
    _check_exists(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected a .safetensors file")
    damage = _damage_is_input_error(path, "a safetensors file")
    with damage, safetensors.safe_open(path, "numpy") as file:
        yield file


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    damage = _damage_is_input_error(path, "an .npz of arrays")
    with damage, np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_folder(path: Path) -> dict[str, np.ndarray]:
    files = sorted(path.glob("*.npy"))
    if not files:
        raise InputError(f"{path}: a folder without .npy files; expected one for each tensor")
    state = {}
    for file in files:
        with _damage_is_input_error(file, "an .npy array"):
            state[file.stem] = np.load(file, allow_pickle=False)
    return state
