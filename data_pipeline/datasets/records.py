"""TFDS's TFRecords at random: record i of a split, wherever it lies, without reading the others.

TFDS's own reader goes through a split from its start; a stream that is a function of (seed, step)
needs any record at any time. A TFRecord file gives each record a header of 12 bytes (length uint64,
its checksum) and a footer of 4 (the checksum of the bytes between). Where each record starts is
told by `SHARD.offsets.npy`, int64 `[records, 2]` (start of the bytes, their number), which our
builders write; without it the headers are read one after the other, which is quick on a local disk.
Checksums are not compared: a length that is wrong leads nowhere, and the pictures tell by
themselves when they are damaged.

TensorFlow and TFDS take seconds to import, and training from raw files needs neither: they are
imported where a built dataset is opened or a record read, and nowhere else.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from data_pipeline.datasets.davis import shortened
from qmra_jax.errors import InputError
from qmra_jax.files import is_remote

OFFSETS_SUFFIX = ".offsets.npy"
HEADER, FOOTER = 12, 4  # bytes around a TFRecord's own
STATIC = frozenset({"name", "image", "mask"})  # the features that triplets need
VIDEO = frozenset({"name", "frames", "masks", "annotated"})
_INFO = "dataset_info.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
      path: of the file, local or remote.
      spans: int64 `[records, 2]`: where each record's bytes start, and how many there are.
    """

    path: epath.Path
    spans: np.ndarray


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a split, by number. Threads may share it: it keeps no file open.

    Attributes:
      shards: the split's files, in order.
    """

    shards: tuple[Shard, ...]

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(shard.spans) for shard in self.shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, i: int) -> Mapping[str, Sequence]:
        """Record i, parsed: each feature's values, of which only those asked for are copied.

        Raises:
          IndexError: if there is no such record.
          InputError: if the file is not what it was when it was opened, or is damaged.
        """
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        number = int(np.searchsorted(self._ends, i, side="right"))
        shard = self.shards[number]
        start, length = shard.spans[i - self._ends[number]].tolist()
        with _told(shard.path), shard.path.open("rb") as file:
            file.seek(start - HEADER)
            header, data = file.read(HEADER), file.read(length)
        if len(data) < length or int.from_bytes(header[:8], "little") != length:
            raise InputError(
                f"shard {shard.path}: expected a record of {length} bytes at byte {start}, found"
                f" none: the file has changed, or {shard.path.name}{OFFSETS_SUFFIX} belongs to"
                " another; copy both again"
            )
        try:
            features = tf.train.Example.FromString(data).features.feature
        except DecodeError:
            raise InputError(
                f"shard {shard.path}: the record at byte {start} is damaged: copy the file again"
            ) from None
        kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
        return {n: getattr(features[n], kind).value if kind else () for n, kind in kinds.items()}


def find_version(folder: epath.PathLike) -> epath.Path | None:
    """The folder of a TFDS dataset: this one, or its newest version's; None if it is none.

    Args:
      folder: such as `duts/1.0.0`, `duts` or `youtube_vos/2019`, local or remote.

    Raises:
      InputError: if a remote folder cannot be read.
    """
    folder = epath.Path(folder)
    with _told(folder):
        if (folder / _INFO).exists():
            return folder
        if not folder.is_dir():
            return None
        versions = [p for p in folder.iterdir() if _VERSION.fullmatch(p.name)]
        built = [p for p in versions if (p / _INFO).exists()]
    return max(built, key=lambda p: [int(n) for n in p.name.split(".")], default=None)


def find_configs(folder: epath.PathLike) -> list[str]:
    """The names of a TFDS dataset's configs: those of its sub-folders that hold a version."""
    folder = epath.Path(folder)
    with _told(folder):
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    return [name for name in names if find_version(folder / name)]


def open_records(folder: epath.PathLike, split: str, needed: frozenset[str]) -> Records:
    """Finds a split's records, and checks that its files are whole.

    Args:
      folder: that holds `dataset_info.json`.
      split: such as "train".
      needed: names of features that records must have: `STATIC` or `VIDEO`.

    Raises:
      InputError: if there is no such split, the features are others, or a file is missing, cut
        short or unlike its `.offsets.npy`.
    """
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    folder = epath.Path(folder)
    with _told(folder):
        try:
            info = tfds.builder_from_directory(folder).info
        except (ValueError, KeyError, FileNotFoundError, json_format.Error) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"dataset {folder} cannot be read ({reason}): build it anew") from None
    _check_features(folder, set(info.features or ()), needed)
    if split not in info.splits:
        raise InputError(
            f"split {split} of {folder}: there is none; found {', '.join(info.splits) or 'none'}"
        )
    if (kind := info.file_format.file_suffix) != "tfrecord":
        raise InputError(f"dataset {folder} is of {kind} files: expected tfrecord")
    paths, counts = info.splits[split].filepaths, info.splits[split].shard_lengths
    with concurrent.futures.ThreadPoolExecutor(16) as pool:  # remote files answer slowly
        shards = tuple(pool.map(_open_shard, map(epath.Path, paths), counts))
    if not sum(counts):
        raise InputError(f"split {split} of {folder} holds no records: build it anew")
    return Records(shards)


def _check_features(folder: epath.Path, found: set[str], needed: frozenset[str]) -> None:
    if needed <= found:
        return
    for kind, features, setting in (
        ("images", STATIC, "data.static"),
        ("videos", VIDEO, "data.videos"),
    ):
        if features <= found:
            raise InputError(f"dataset {folder} holds {kind}: name it in {setting} instead")
    raise InputError(
        f"dataset {folder} has the features {shortened(found) or 'none'}: expected"
        f" {', '.join(sorted(needed))}, as the builders of data_pipeline.build write them"
    )


def _open_shard(path: epath.Path, records: int) -> Shard:
    beside = path.parent / f"{path.name}{OFFSETS_SUFFIX}"
    with _told(path):
        try:
            size = path.stat().length
        except FileNotFoundError:
            raise InputError(f"shard {path}: no such file: copy it again") from None
        spans = _read_spans(beside) if beside.exists() else _scan(path, size)
    end = int(spans[-1].sum()) + FOOTER if len(spans) else 0
    if len(spans) != records or end != size:
        told = f" (by {beside.name})" if beside.exists() else ""
        raise InputError(
            f"shard {path}: expected {records} records, found {len(spans)} in {end} of the file's"
            f" {size} bytes{told}: the file is cut short or another's; copy it again"
        )
    return Shard(path, spans)


def _read_spans(path: epath.Path) -> np.ndarray:
    try:
        spans = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError):
        spans = np.empty(0)
    if spans.ndim != 2 or spans.shape[1] != 2 or spans.dtype != np.int64:
        raise InputError(f"{path}: expected int64 [records, 2]: remove it, and headers are read")
    return spans


def _scan(path: epath.Path, size: int) -> np.ndarray:
    """The spans by the headers, as far as whole records go."""
    spans = []
    with path.open("rb") as file:
        start = HEADER
        while start + FOOTER <= size:
            file.seek(start - HEADER)
            length = int.from_bytes(file.read(8), "little")
            if start + length + FOOTER > size:
                break
            spans.append((start, length))
            start += length + FOOTER + HEADER
    return np.array(spans, np.int64).reshape(-1, 2)


@contextlib.contextmanager
def _told(path: epath.Path) -> Iterator[None]:
    """Tells in one line that a file cannot be read."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_remote(path):  # each kind of bucket has others
            raise
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())})") from None
