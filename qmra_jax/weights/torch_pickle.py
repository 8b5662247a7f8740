"""Reads files of `torch.save` without PyTorch, and unpickles nothing but tensors.

A pickle can name any function and have it called. This reader knows dictionaries, lists, numbers,
strings and the few names by which PyTorch stores a tensor; it refuses any other name before
importing anything.

There are two formats: since PyTorch 1.6 a zip of `data.pkl` and one `data/<key>` per storage;
before, several pickles in a row, then the storages.
"""

import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from qmra_jax.errors import InputError

_DTYPES = {
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
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys of checkpoints that hold more

# What unpickling corrupt or truncated data may raise.
_DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError),
    *(TypeError, AttributeError, LookupError, OverflowError, RuntimeError, MemoryError, OSError),
)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the state dict of a .pth or .pt file.

    In a checkpoint that holds more, it is the entry `state_dict`, `model_state_dict` or `model`.
    DataParallel's prefix `module.` is removed if all names have it.

    Returns:
      name -> contiguous array of the stored dtype.

    Raises:
      InputError: if the file is damaged, holds anything but tensors and plain values, or has no
        state dict.
    """
    try:
        with Path(path).open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            state = _read_zip(file) if zipped else _read_legacy(file)
    except _RefusedError as error:
        raise InputError(
            f"{path}: holds {error}, but only tensors are unpickled; save the state dict alone:"
            " torch.save(model.state_dict(), path)"
        ) from None
    except _DAMAGE as error:
        raise InputError(
            f"{path}: not a file of torch.save, or damaged ({error}); fetch it again"
        ) from error
    if isinstance(state, Mapping):
        wrapped = [k for k in _WRAPPERS if isinstance(state.get(k), Mapping)]
        state = state[wrapped[0]] if len(wrapped) == 1 else state
    if not isinstance(state, Mapping) or not state:
        raise InputError(
            f"{path}: holds a {type(state).__name__}; expected a state dict of tensors"
        )
    odd = [k for k, v in state.items() if not isinstance(k, str) or not isinstance(v, np.ndarray)]
    if odd:
        raise InputError(
            f"{path}: {', '.join(map(repr, odd[:5]))} of its {len(state)} entries are not tensors;"
            f" expected tensors only, or a state dict under {' or '.join(_WRAPPERS)}"
        )
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    # Tensors may share a storage, arrays do not.
    return {name.removeprefix(prefix): np.array(x, order="C") for name, x in state.items()}


class _RefusedError(Exception):
    """The pickle names something that does not belong to a tensor."""


# Immutable, as a pickle can write into the attributes of the objects on its stack.
class _StorageType(NamedTuple):
    """Stands for `torch.FloatStorage` and the like."""

    name: str


class _Storage(NamedTuple):
    """The numbers of one or more tensors, `[size]`; filled in after unpickling."""

    numbers: np.ndarray


def _rebuild_tensor(storage, offset, shape, strides, *_) -> np.ndarray:
    """A view of the storage; offset, shape and strides are in elements."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    offset, shape, strides = int(offset), tuple(map(int, shape)), tuple(map(int, strides))
    numbers = storage.numbers
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if min(offset, *shape, *strides, 0) < 0 or (0 not in shape and last >= len(numbers)):
        raise ValueError(f"a tensor of shape {shape} reaches outside its storage")
    strides = tuple(s * numbers.itemsize for s in strides)
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, strides)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "Size"): tuple,
}


class _Unpickler(pickle.Unpickler):
    """Finds the names in `_ALLOWED` and PyTorch's storages, and nothing else.

    Attributes:
      storages: key -> storage, of all tensors unpickled so far.
    """

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")  # of strings pickled by Python 2
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _StorageType(name)
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _device, size, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"a stored {kind!r} of {storage_type!r}")
        if any(part is not None for part in view):
            raise _RefusedError("a view of a storage, as written before PyTorch 0.4")
        if str(key) not in self.storages:
            numbers = np.zeros(int(size), _DTYPES[storage_type.name])
            self.storages[str(key)] = _Storage(numbers)
        return self.storages[str(key)]

    def fill(self, read: Callable[[str], bytes]) -> None:
        """Fills the storages; `read` returns the bytes of a key."""
        for key, (numbers,) in self.storages.items():
            content = read(key)
            if len(content) != numbers.nbytes:
                raise ValueError(f"a storage of {len(content)} bytes; expected {numbers.nbytes}")
            numbers[:] = np.frombuffer(content, numbers.dtype)


def _read_zip(file: IO[bytes]) -> Any:
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if name.count("/") == 1]
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("a zip without data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("big-endian numbers")
    with archive.open(pickles[0]) as pickled:
        unpickler = _Unpickler(pickled)
        state = unpickler.load()
    unpickler.fill(lambda key: archive.read(f"{root}data/{key}"))
    return state


def _read_legacy(file: IO[bytes]) -> Any:
    if _Unpickler(file).load() != _LEGACY_MAGIC or _Unpickler(file).load() != _LEGACY_PROTOCOL:
        raise ValueError("no magic number, or an unknown protocol")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("big-endian numbers")
    unpickler = _Unpickler(file)
    state = unpickler.load()
    contents: dict[str, bytes] = {}
    for key in _Unpickler(file).load():
        (size,) = struct.unpack("<q", file.read(8))
        contents[key] = file.read(max(size, 0) * unpickler.storages[key].numbers.itemsize)
    unpickler.fill(contents.__getitem__)
    return state
