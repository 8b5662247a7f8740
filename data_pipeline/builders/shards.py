"""Shards of records that survive an interrupted build.

A finished shard waits in a staging folder beside the dataset, under a name that is a digest of what
it is made of: the items' keys, and their files' names, sizes and times. A later build reuses the
shards that are still valid. Beside a shard `X` lie `X.offsets.npy`, int64 `[records, 2]` (the first
byte of each record and its length, for random access), and `X.json`, which is written last and
marks the shard as finished.
"""

import dataclasses
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from etils import epath

from data_pipeline.builders.items import Item
from data_pipeline.builders.summary import Outcome
from data_pipeline.datasets.records import FOOTER, HEADER, OFFSETS_SUFFIX


class Made(NamedTuple):
    """The result of an item: a serialized tf.train.Example or None, and its outcome."""

    record: bytes | None
    outcome: Outcome


@dataclasses.dataclass(frozen=True)
class ShardToWrite:
    """Consecutive items of a split, and the TFRecord file in the staging folder for them."""

    items: tuple[Item, ...]
    path: epath.Path

    def finished(self) -> bool:
        """Whether it is written completely, by this build or an earlier one."""
        try:
            return self.path.stat().length == self._status()["size"]
        except (OSError, ValueError):
            return False

    def outcome(self) -> Outcome:
        """The outcome of its items, once it is finished."""
        return Outcome(**self._status()["outcome"])

    def _status(self) -> dict[str, Any]:
        return json.loads(_beside(self.path, ".json").read_text())

    def write(self, made: Iterable[Made]) -> None:
        """Writes the items' records in order, their offsets, and the total outcome."""
        spans, outcomes, end = [], [], 0
        with tf.io.TFRecordWriter(str(self.path)) as writer:
            for record, outcome in made:
                outcomes.append(outcome)
                if record is not None:
                    writer.write(record)
                    spans.append((end + HEADER, len(record)))
                    end += HEADER + len(record) + FOOTER
        array = io.BytesIO()
        np.save(array, np.array(spans, np.int64).reshape(-1, 2))
        _beside(self.path, OFFSETS_SUFFIX).write_bytes(array.getvalue())
        status = {"size": end, "outcome": Outcome.total(outcomes)._asdict()}
        _beside(self.path, ".json").write_text(json.dumps(status))

    def move(self, path: epath.Path) -> None:
        """Moves the finished shard and its offsets to their final names."""
        self.path.rename(path)
        _beside(self.path, OFFSETS_SUFFIX).rename(_beside(path, OFFSETS_SUFFIX))


def plan(
    split: str,
    items: Sequence[Item],
    *,
    folder: epath.Path,
    maker: str,
    target: int,
    count: int = 0,
) -> list[ShardToWrite]:
    """Divides a split's items into shards; the same files give the same shards on every machine.

    Args:
      split: its name.
      items: in order.
      folder: the staging folder.
      maker: name and version of the builder; part of the digest.
      target: bytes of source files per shard, not counting files that several items share. Small
        splits still get a few shards, to be read in parallel.
      count: largest number of shards; 0: derived from `target`.
    """
    stats = {path: _stat(path) for item in items for path in item.sources}
    users = Counter(path for item in items for path in set(item.sources))
    sizes = [sum(stats[path][0] for path in item.sources if users[path] == 1) for item in items]
    count = count or max(1, -(-sum(sizes) // target), min(8, len(items) // 32))
    ends = list(itertools.accumulate(size + 1 for size in sizes))
    numbered = [
        ((end - 1) * count // ends[-1], item) for end, item in zip(ends, items, strict=True)
    ]
    shards = []
    for _, group in itertools.groupby(numbered, key=lambda pair: pair[0]):
        members = tuple(item for _, item in group)
        files = [[i.key, *((path.name, *stats[path]) for path in i.sources)] for i in members]
        digest = hashlib.sha256(json.dumps([maker, split, files]).encode()).hexdigest()[:32]
        shards.append(ShardToWrite(members, folder / f"{digest}.tfrecord"))
    return shards


def drop_stale(folder: epath.Path, planned: Iterable[ShardToWrite]) -> None:
    """Removes the files of the staging folder that belong to none of the planned shards."""
    names = {shard.path.name for shard in planned}
    kept = names | {name + ending for name in names for ending in (OFFSETS_SUFFIX, ".json")}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()


def _beside(path: epath.Path, ending: str) -> epath.Path:
    return path.with_name(path.name + ending)


def _stat(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; 0 of an absent file, which is a fault."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
