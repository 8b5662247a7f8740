"""Every example of a training run, by number: which item of which source, drawn how.

Example k is made from k and the run's seed alone; `data_pipeline.stream` only runs examples side
by side.
"""

import dataclasses
import functools
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.decode import check_headers
from data_pipeline.sources import (
    StaticImages,
    Video,
    Videos,
    find_pairs,
    find_videos,
)
from data_pipeline.triplets import Augmentation, Triplet
from qmra_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Every example there will ever be, by number.

    Attributes:
      seed: of the run.
      global_batch: examples a step, over all hosts.
      static: image and mask pairs, if any.
      videos: videos, if any.
      video_share: (from step, share) pairs in ascending order: how much of the stream is videos.
      augmentation: how triplets are drawn.
    """

    seed: int
    global_batch: int
    static: StaticImages | None
    videos: Videos | None
    video_share: tuple[tuple[int, float], ...]
    augmentation: Augmentation

    def __call__(self, k: int) -> tuple[str, Triplet]:
        """Makes example k.

        Of n items of a source, any n examples in a row that start at a multiple of n take none
        twice; a source that stands alone is thus seen whole in each epoch.

        Returns:
          Where it is from, and the triplet.

        Raises:
          InputError: if a file it needs is bad; the message names the file.
        """
        rng = np.random.default_rng([self.seed, k])
        share = share_at(self.video_share, k // self.global_batch)
        source, salt = (
            (self.videos, b"videos") if rng.random() < share else (self.static, b"static")
        )
        assert source is not None  # `open_examples` saw to it
        epoch, place = divmod(k, len(source))
        order = _permutation(self.seed, zlib.crc32(salt), epoch, len(source))
        return source.triplet(int(order[place]), rng, self.augmentation)


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, salt: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, salt, epoch]).permutation(length)


def share_at(video_share: tuple[tuple[int, float], ...], step: int) -> float:
    """The share of video examples at a step: that of the last pair which has begun."""
    return [share for start, share in video_share if start <= step][-1]


def open_examples(data: Any, *, seed: int, global_batch: int) -> Examples:
    """Checks the `data` part of a config and lists its files.

    Args:
      data: the fields of `configs/common.py`, by attribute.
      seed: of the run; not negative.
      global_batch: examples a step, over all hosts.

    Raises:
      InputError: if a value is out of range, or a folder or file is missing.
    """
    augmentation = Augmentation.from_config(data)
    schedule = _check_schedule(data.video_share)
    if seed < 0:
        raise InputError(f"seed={seed}: expected 0 or more")
    if data.max_gap < 1:
        raise InputError(f"data.max_gap={data.max_gap}: expected at least 1 frame")
    if any(share > 0 for _, share in schedule) and not data.videos:
        raise InputError(f"data.video_share={schedule} asks for videos, but data.videos is empty")
    if any(share < 1 for _, share in schedule) and not data.static:
        raise InputError(
            f"data.video_share={schedule} asks for still images too, but data.static is empty;"
            " videos alone are ((0, 1.0),)"
        )
    return Examples(
        seed, global_batch, _open_static(data), _open_videos(data), schedule, augmentation
    )


def _check_schedule(video_share: Any) -> tuple[tuple[int, float], ...]:
    try:
        schedule = tuple((int(start), float(share)) for start, share in video_share)
    except (TypeError, ValueError):
        schedule = ()
    starts = [start for start, _ in schedule]
    if starts[:1] != [0] or starts != sorted(set(starts)):
        raise InputError(
            f"data.video_share={video_share}: expected pairs (from step, share), the first from"
            " step 0, such as ((0, 0.2), (1000, 0.6))"
        )
    if not all(0 <= share <= 1 for _, share in schedule):
        raise InputError(f"data.video_share={video_share}: expected shares from 0 to 1")
    return schedule


def _open_static(data: Any) -> StaticImages | None:
    folders = {name: _resolve(data.root, name) for name in data.static}
    pairs = [pair for name, folder in folders.items() for pair in find_pairs(folder, name)]
    check_headers((pair.image, pair.mask) for pair in pairs)
    return StaticImages(tuple(pairs)) if pairs else None


def _open_videos(data: Any) -> Videos | None:
    videos: list[Video] = []
    for entry in data.videos:
        name, split, year = _video_entry(entry)
        videos += find_videos(_resolve(data.root, name), name, split, year)
    check_headers(pair for v in videos for pair in zip(v.frames, v.annotations, strict=True))
    return Videos(tuple(videos), data.max_gap) if videos else None


def _video_entry(entry: str) -> tuple[str, str, str]:
    """Folder, split and year of "davis2016:train" or "davis2017:train:2017"."""
    match = re.fullmatch(r"(.+?):([^:]+)(?::(\w+))?", entry)
    if not match:
        raise InputError(
            f"data.videos entry {entry!r}: expected FOLDER:SPLIT, such as davis2016:train, or"
            " FOLDER:SPLIT:YEAR, such as davis2017:train:2017 (each object by itself)"
        )
    folder, split, year = match.groups()
    return folder, split, year or "2016"


def _resolve(root: str, name: str) -> Path:
    """The folder of a source: as it is if absolute, else in `data.root`, else in $QMRA_DATA."""
    base = root or os.environ.get("QMRA_DATA", "")
    if not base and not Path(name).is_absolute():
        raise InputError(
            f"source {name!r} is relative, but data.root is empty and QMRA_DATA is not set: set one"
            " of them to the folder that holds it"
        )
    folder = Path(base) / name
    if not folder.is_dir():
        raise InputError(f"source {name!r}: no folder {folder}; see data.root and QMRA_DATA")
    return folder
