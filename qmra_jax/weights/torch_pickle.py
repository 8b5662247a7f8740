"""Reads what `torch.save` wrote, without PyTorch, and unpickles nothing but tensors.

A pickle may name any function and have it called. This reader knows dictionaries, lists, numbers
and texts, and the few names by which PyTorch stores a tensor; every other name is refused, before
anything of it is imported.

Two formats: since PyTorch 1.6 a zip with `data.pkl` and one `data/<key>` for each storage; before,
pickles one after another, then the storages.
"""

import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from qmra_jax.errors import InputError

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

# Where checkpoints keep the state dict beside epoch, optimiser and so on.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The state dict of a .pth or .pt file.

    Of a checkpoint that holds it beside other things, the entry `state_dict`, `model_state_dict` or
    `model` is taken. Names that all begin with `module.`, which DataParallel puts before them, are
    given without it.

    Args:
      path: a file that `torch.save` wrote, of either format.

    Returns:
      name -> array, each of its own dtype and contiguous.

    Raises:
      InputError: if the file is absent or damaged, holds anything but tensors and plain values, or
        has no state dict.
    """
    state = _read_object(Path(path))
    if isinstance(state, Mapping):
        wrapped = [k for k in _WRAPPERS if isinstance(state.get(k), Mapping)]
        if len(wrapped) == 1:
            state = state[wrapped[0]]
    if not isinstance(state, Mapping) or not state:
        raise InputError(f"{path}: holds {_describe(state)}; expected a state dict of tensors")
    odd = [k for k, v in state.items() if not isinstance(k, str) or not isinstance(v, np.ndarray)]
    if odd:
        raise InputError(
            f"{path}: no state dict: {', '.join(map(repr, odd[:5]))} of its {len(state)} entries"
            f" are no tensors; expected tensors alone, or them under {' or '.join(_WRAPPERS)}"
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): array for name, array in state.items()}
    return dict(state)


def _read_object(path: Path) -> Any:
    """What the file holds, tensors as NumPy arrays in the dictionaries and lists they came in."""
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            stored, load = _read_zip(file) if zipped else _read_legacy(file)
            return _with_arrays(stored, load)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: expected a .pth file") from None
    except _Refused as error:
        raise InputError(
            f"{path}: holds {error}, and nothing but tensors is unpickled; save its state dict"
            " alone, `torch.save(model.state_dict(), path)`"
        ) from None
    except _DAMAGE as error:
        raise InputError(
            f"{path}: not a file of torch.save, or a damaged one ({error}); fetch it again"
        ) from error


# What unpickling bytes that are no pickle, or half of one, raises.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RuntimeError,
    MemoryError,
    OSError,  # zipfile's, of a place outside the file
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class _Refused(Exception):
    """The pickle names something that is not a tensor's."""


@dataclass(frozen=True)
class _Storage:
    """The numbers of one or more tensors: where they lie in the file."""

    key: str
    dtype: np.dtype
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor as an array of its own, from the storage's numbers."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.empty(self.shape, numbers.dtype)
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(numbers):
            raise ValueError(f"a tensor of shape {self.shape} reaches outside its storage")
        strides = tuple(s * numbers.itemsize for s in self.strides)
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)
        return np.array(view, order="C")


@dataclass(frozen=True)
class _StorageType:
    """Stands for `torch.FloatStorage` and its like; cannot be called."""

    dtype: np.dtype


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor, *_) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise ValueError("a parameter without a tensor")
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
}


class _Unpickler(pickle.Unpickler):
    """Finds the names in `_ALLOWED`, PyTorch's storages, and nothing else."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")  # of texts that Python 2 pickled

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            # A new one each time: a pickle can write into the objects that it is given.
            return _StorageType(np.dtype(_STORAGES[name]))
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _device, size, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"a stored {kind!r} of {storage_type!r}")
        if any(part is not None for part in view):
            raise _Refused("a view of a storage, as PyTorch before 0.4 wrote them")
        return _Storage(str(key), storage_type.dtype, int(size))


# Gives the numbers of a storage.
_Load = Callable[[_Storage], np.ndarray]


def _read_zip(file: IO[bytes]) -> tuple[Any, _Load]:
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if name.count("/") == 1]
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("a zip without data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("big-endian numbers")

    def load(storage: _Storage) -> np.ndarray:
        return _numbers(archive.read(f"{root}data/{storage.key}"), storage)

    with archive.open(pickles[0]) as pickled:
        return _Unpickler(pickled).load(), load


def _read_legacy(file: IO[bytes]) -> tuple[Any, _Load]:
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise ValueError("no magic number")
    if _Unpickler(file).load() != _LEGACY_PROTOCOL:
        raise ValueError("an unknown protocol")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("big-endian numbers")
    stored = _Unpickler(file).load()
    sizes = {s.key: s for s in _storages(stored)}
    contents: dict[str, bytes] = {}
    for key in _Unpickler(file).load():
        (size,) = struct.unpack("<q", file.read(8))
        contents[key] = file.read(max(size, 0) * sizes[key].dtype.itemsize)
    return stored, lambda storage: _numbers(contents[storage.key], storage)


def _numbers(content: bytes, storage: _Storage) -> np.ndarray:
    if len(content) != storage.size * storage.dtype.itemsize:
        raise ValueError(
            f"a storage of {len(content)} bytes; expected {storage.size} {storage.dtype}"
        )
    return np.frombuffer(content, storage.dtype)


def _storages(stored: Any) -> list[_Storage]:
    if isinstance(stored, _Tensor):
        return [stored.storage]
    if isinstance(stored, Mapping):
        stored = stored.values()
    elif not isinstance(stored, list | tuple):
        return []
    return [storage for item in stored for storage in _storages(item)]


def _with_arrays(stored: Any, load: _Load) -> Any:
    if isinstance(stored, _Tensor):
        return stored.array(load(stored.storage))
    if isinstance(stored, Mapping):
        return {key: _with_arrays(value, load) for key, value in stored.items()}
    if isinstance(stored, list | tuple):
        return type(stored)(_with_arrays(value, load) for value in stored)
    return stored


def _describe(found: Any) -> str:
    return "a tensor" if isinstance(found, np.ndarray) else f"a {type(found).__name__}"
