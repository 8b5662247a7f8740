"""Reads a state dict, torch name -> array, from whichever file holds it; writes safetensors."""

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
SCALE = "_scale"  # ends the name of an int8 array's scale

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,  # safetensors.numpy writes it and cannot read it
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}

# Which weights may be stored as.
STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def read_state(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """A state dict from a file; which kind of file, its name says.

    Args:
      path: `.safetensors`; `.pth`, `.pt` or `.bin` as `torch.save` writes them (PyTorch is not
        needed, see `torch_pickle`); `.npz`; or a folder of `.npy`, named by their stems.

    Raises:
      InputError: if there is no such file, or it is damaged, or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such weights file")
    readers = {
        ".safetensors": read_safetensors,
        ".pth": torch_pickle.read,
        ".pt": torch_pickle.read,
        ".bin": torch_pickle.read,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise InputError(
            f"{path}: not a weights file by its name; expected one of {', '.join(readers)},"
            " or a folder of .npy"
        )
    return readers[path.suffix](path)


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, each of its own dtype.

    Raises:
      InputError: if it is absent, is no safetensors file, or holds a dtype unknown here.
    """
    state = {}
    with _safetensors_errors(path):
        tensors = safetensors.deserialize(Path(path).read_bytes())
    for name, tensor in tensors:
        if tensor["dtype"] not in _DTYPES:
            raise InputError(
                f"{path}: {name} is of dtype {tensor['dtype']}; expected {', '.join(_DTYPES)}"
            )
        array = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        state[name] = array.reshape(tensor["shape"])
    return state


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a .safetensors file; its tensors are not read.

    Raises:
      InputError: if it is absent or is no safetensors file.
    """
    with _safetensors_errors(path), safetensors.safe_open(path, "numpy") as file:
        return file.metadata() or {}


def write_safetensors(
    path: str | os.PathLike,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> None:
    """Writes the file whole or not at all.

    Raises:
      InputError: if the name does not end in .safetensors, or the file exists and `overwrite` is
        not set.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    with written_whole(path) as part:
        part.write_bytes(serialize(dict(state), metadata=dict(metadata)))


def cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """The array as it is to be stored; BatchNorm's int64 counters stay what they are.

    Args:
      name: of the array, for the message.
      array: float, or an int64 counter.
      dtype: "float32", "float16" or "bfloat16".

    Raises:
      InputError: if a number is too large for `dtype`.
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
    """Arrays as int8 with a scale for each output channel, in about half the bytes of float16.

    Args:
      state: name -> float array in PyTorch's layout.

    Returns:
      Of a matrix `[out, ...]`, int8 in [-127, 127] under its name and, under the name with `_scale`
      behind it, float32 `[out, 1, ...]`; their product is the matrix, rounded by at most half the
      scale. Positions `[1, n, c]` have a scale `[1, n, 1]`. Vectors are float16.
    """
    stored = {}
    for name, array in state.items():
        if array.squeeze().ndim < 2:
            stored[name] = cast(name, array, "float16")
            continue
        channel = 1 if array.shape[0] == 1 else 0
        rest = tuple(axis for axis in range(array.ndim) if axis != channel)
        scale = np.abs(array).max(rest, keepdims=True).astype(np.float32) / 127
        scale[scale == 0] = 1
        stored[name] = np.rint(array / scale).astype(np.int8)
        stored[name + SCALE] = scale
    return stored


def from_int8(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state with each int8 array multiplied by its scale, float32; the rest as it is."""
    arrays = dict(state)
    for name in state:
        if name + SCALE in state:
            arrays[name] = arrays[name] * arrays.pop(name + SCALE)
    return arrays


def check_target(path: str | os.PathLike, *, overwrite: bool) -> None:
    """Raises `InputError` unless a .safetensors file may be written there."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: weights are written as .safetensors; name the file so")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another name, or ask for it to be overwritten")


@contextlib.contextmanager
def _safetensors_errors(path: str | os.PathLike) -> Iterator[None]:
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: expected a .safetensors file")
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such weights file") from None
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: not a safetensors file, or a damaged one ({error}); fetch or export it again"
        ) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npz of arrays, or a damaged one ({error})") from error


def _read_folder(path: Path) -> dict[str, np.ndarray]:
    files = sorted(path.glob("*.npy"))
    if not files:
        raise InputError(f"{path}: a folder without .npy files; expected one for each tensor")
    state = {}
    for file in files:
        try:
            state[file.stem] = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{file}: not an .npy array, or a damaged one ({error})") from error
    return state


def check_state(
    state: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    *,
    what: str,
    examples: int = 0,
) -> None:
    """Raises `InputError` unless `state` has the expected names and shapes (counters or not)."""
    counters = {
        name.replace("running_mean", COUNTER) for name in expected if name.endswith("running_mean")
    }
    missing = [f"{name} {_text(expected[name])}" for name in sorted(expected.keys() - state.keys())]
    unexpected = [
        f"{name} {_text(state[name].shape)}"
        for name in sorted(state.keys() - expected.keys() - counters)
    ]
    misshapen = [
        f"{name} is {_text(state[name].shape)}, expected {_text(expected[name])}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name]
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    found = [_listing(kind, keys, examples) for kind, keys in kinds.items() if keys]
    if found:
        raise InputError(f"{what}: not the weights of this model: {'; '.join(found)}")


def _listing(kind: str, keys: list[str], examples: int) -> str:
    shown = keys[:examples] if examples else keys
    more = f" and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
    return f"{len(keys)} {kind}: {', '.join(shown)}{more}"


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
