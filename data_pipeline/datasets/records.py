"""Random access to the records of a TFDS dataset, which TFDS itself reads in order only.

A stream that is a function of (seed, step) needs any record at any time. In a TFRecord file each
record has a header of 12 bytes (its length as uint64, a checksum) and a footer of 4 (a checksum).
Our builders write `SHARD.offsets.npy` beside each, int64 `[records, 2]`: first byte and length of
each record. Checksums are not compared: a wrong length is noticed, and so is a damaged image when
it is decoded.

TensorFlow and TFDS take seconds to import, and training from raw files needs neither: they are
imported where a built dataset is opened or a record is read.
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
HEADER, FOOTER = 12, 4  # bytes around a record
STATIC = frozenset({"name", "image", "mask"})  # the features that triplets need
VIDEO = frozenset({"name", "frames", "masks", "annotated"})
_INFO = "dataset_info.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
      path: local or remote.
      spans: int64 `[records, 2]`: first byte and number of bytes of each record.
    """

    path: epath.Path
    spans: np.ndarray


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a split, by number; thread-safe, as it keeps no file open.

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
        """The features of record i, each a sequence of values, copied only when accessed.

        Raises:
          IndexError: if there is no such record.
          InputError: if the file is damaged, or has changed since it was opened.
        """
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        number = int(np.searchsorted(self._ends, i, side="right"))
        shard = self.shards[number]
        start, length = shard.spans[i - self._ends[number]].tolist()
        with _reading(shard.path), shard.path.open("rb") as file:
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
    """The folder of a TFDS dataset: this one or its newest version; None if there is none.

    Args:
      folder: such as `duts/1.0.0`, `duts` or `youtube_vos/2019`, local or remote.

    Raises:
      InputError: if a remote folder cannot be read.
    """
    folder = epath.Path(folder)
    with _reading(folder):
        if (folder / _INFO).exists():
            return folder
        if not folder.is_dir():
            return None
        versions = [p for p in folder.iterdir() if _VERSION.fullmatch(p.name)]
        built = [p for p in versions if (p / _INFO).exists()]
    return max(built, key=lambda p: [int(n) for n in p.name.split(".")], default=None)


def find_configs(folder: epath.PathLike) -> list[str]:
    """The names of a TFDS dataset's configs: its sub-folders that contain a version."""
    folder = epath.Path(folder)
    with _reading(folder):
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    return [name for name in names if find_version(folder / name)]


def open_records(folder: epath.PathLike, split: str, needed: frozenset[str]) -> Records:
    """Finds a split's records, and checks that its files are complete.

    Args:
      folder: contains `dataset_info.json`.
      split: such as "train".
      needed: features that records must have: `STATIC` or `VIDEO`.

    Raises:
      InputError: if there is no such split, the features differ, or a file is missing, cut short
        or inconsistent with its `.offsets.npy`.
    """
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    folder = epath.Path(folder)
    with _reading(folder):
        try:
            info = tfds.builder_from_directory(folder).info
        except (ValueError, KeyError, FileNotFoundError, json_format.Error) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"dataset {folder} cannot be read ({reason}): build it again"
            ) from None
    _check_features(folder, set(info.features or ()), needed)
    if split not in info.splits:
        splits = ", ".join(info.splits) or "none"
        raise InputError(f"split {split} of {folder}: no such split; found {splits}")
    if (kind := info.file_format.file_suffix) != "tfrecord":
        raise InputError(f"dataset {folder} consists of {kind} files: expected tfrecord")
    paths, counts = info.splits[split].filepaths, info.splits[split].shard_lengths
    with concurrent.futures.ThreadPoolExecutor(16) as pool:  # remote files answer slowly
        shards = tuple(pool.map(_open_shard, map(epath.Path, paths), counts))
    if not sum(counts):
        raise InputError(f"split {split} of {folder} holds no records: build it again")
    return Records(shards)


def _check_features(folder: epath.Path, features: set[str], needed: frozenset[str]) -> None:
    if needed <= features:
        return
    if features >= STATIC:
        raise InputError(f"dataset {folder} holds images: name it in data.static instead")
    if features >= VIDEO:
        raise InputError(f"dataset {folder} holds videos: name it in data.videos instead")
    raise InputError(
        f"dataset {folder} has the features {shortened(features) or 'none'}: expected"
        f" {', '.join(sorted(needed))}, as the builders of data_pipeline.build write them"
    )


def _open_shard(path: epath.Path, records: int) -> Shard:
    offsets = path.parent / f"{path.name}{OFFSETS_SUFFIX}"
    with _reading(path):
        try:
            size, array = path.stat().length, offsets.read_bytes()
        except FileNotFoundError:
            raise InputError(
                f"shard {path}: it or {offsets.name} does not exist: copy both again"
            ) from None
    try:
        spans = np.load(io.BytesIO(array), allow_pickle=False)
    except (ValueError, EOFError):
        spans = np.empty(0)
    if spans.ndim != 2 or spans.shape[1] != 2 or spans.dtype != np.int64:
        raise InputError(f"{offsets}: expected int64 [records, 2]: build the dataset again")
    end = int(spans[-1].sum()) + FOOTER if len(spans) else 0
    if len(spans) != records or end != size:
        raise InputError(
            f"shard {path}: expected {records} records in {size} bytes, but {offsets.name} lists"
            f" {len(spans)} in {end}: a file is cut short or another's; copy both again"
        )
    return Shard(path, spans)


@contextlib.contextmanager
def _reading(path: epath.Path) -> Iterator[None]:
    """Turns errors of the file system into an `InputError`; each kind of bucket has its own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_remote(path):
            raise
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())})") from None
