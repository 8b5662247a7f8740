"""The examples of a training run, by number.

Example k is a function of k and the run's seed alone; `stream` only makes examples in parallel.
"""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from absl import logging

from data_pipeline.datasets.folders import FolderVideos
from data_pipeline.triplets.distractors import add_distractor, add_itself, without_target
from data_pipeline.triplets.entries import Entry, open_clips, open_pairs, parse_entries
from data_pipeline.triplets.sources import (
    Clips,
    NoTriplet,
    Pairs,
    one_object,
    static_example,
    video_example,
)
from data_pipeline.triplets.triplets import Augmentation, Triplet
from qmra_jax.errors import InputError
from qmra_jax.schedules import Schedule, parse_frames, parse_shares, value_at

Dataset = TypeVar("Dataset", Pairs, Clips)

ITSELF = 0.3  # share of the look-alikes that are the target itself, pasted a second time
REDRAWS = 50  # of a video in place of one without a triplet, before giving up


@dataclasses.dataclass(frozen=True)
class Mixture(Generic[Dataset]):
    """Datasets whose items together make an epoch.

    Attributes:
      datasets: at least one.
      places: number of places in an epoch of each: its length times its repeat.
    """

    datasets: tuple[Dataset, ...]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.places)

    def item(self, epoch: int, place: int) -> tuple[Dataset, int]:
        """The dataset and its item at a place of an epoch.

        A dataset's places cycle through its items, from epoch to epoch, so that all items come
        equally often, even if there are fewer places than items.
        """
        for dataset, places in zip(self.datasets, self.places, strict=True):
            if place < places:
                return dataset, (epoch * places + place) % len(dataset)
            place -= places
        raise IndexError(f"place {place} beyond an epoch of {len(self)}")


@dataclasses.dataclass(frozen=True)
class Examples:
    """All examples of a run, by number.

    Attributes:
      seed: of the run.
      global_batch: examples per step, over all hosts.
      static: image and mask pairs, if any.
      videos: videos, if any.
      video_share: share of video triplets.
      max_gap: largest distance between neighbours of a video triplet, in annotated frames.
      distractors: share of triplets with another object pasted in, among those whose query shows
        the target.
      lookalikes: share of these objects that are like the target: from the target's own dataset or,
        for `ITSELF` of them and in videos, the target again. The others are from any dataset.
      negatives: share of triplets whose query does not show the target.
      augmentation: settings of the triplets.
    """

    seed: int
    global_batch: int
    static: Mixture[Pairs] | None
    videos: Mixture[Clips] | None
    video_share: Schedule[float]
    max_gap: Schedule[int]
    distractors: float
    lookalikes: float
    negatives: float
    augmentation: Augmentation

    def __call__(self, k: int) -> tuple[str, Triplet]:
        """Makes example k.

        Any n consecutive examples that start at a multiple of n draw each of n places at most once;
        a source that is not mixed with another is thus seen whole in each epoch.

        Returns:
          The example's name, and the triplet.

        Raises:
          InputError: if a file it needs is bad. A video without three frames that show one object
            is reported once and replaced by another.
        """
        rng = np.random.default_rng([self.seed, k])
        name, triplet, pairs = self._plain(k, rng)
        if _happens(self.negatives, rng):
            scene, image, mask = self._any_object(rng)
            triplet = without_target(triplet, image, mask, rng, self.augmentation)
            return f"{name}, then {scene}", triplet
        if not _happens(self.distractors, rng):
            return name, triplet
        if not _happens(self.lookalikes, rng):
            other, image, mask = self._any_object(rng)
        elif pairs is None or rng.random() < ITSELF:
            return f"{name} and itself", add_itself(triplet, rng, self.augmentation)
        else:
            other, image, mask = one_object(pairs, int(rng.integers(len(pairs))), rng)
        # In a video the target stays the target: a pasted still does not move as videos do.
        may_be_target = pairs is not None
        triplet = add_distractor(
            triplet, image, mask, rng, self.augmentation, may_be_target=may_be_target
        )
        return f"{name} and {other}", triplet

    def _any_object(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        """A random object of a random still image: name, image and mask."""
        assert self.static is not None  # see `open_examples`
        pairs, item = self.static.item(0, int(rng.integers(len(self.static))))
        return one_object(pairs, item, rng)

    def _plain(self, k: int, rng: np.random.Generator) -> tuple[str, Triplet, Pairs | None]:
        """Example k before any pasting, and its image dataset (None for a video)."""
        step = k // self.global_batch
        if rng.random() < value_at(self.video_share, step):
            assert self.videos is not None  # see `open_examples`
            clips, item = self._item(self.videos, b"videos", k)
            gap = value_at(self.max_gap, step)
            for _ in range(REDRAWS):
                try:
                    return *video_example(clips, item, rng, self.augmentation, gap), None
                except NoTriplet as fault:
                    warn_once(f"{fault}: another video is drawn instead")
                    clips, item = self.videos.item(0, int(rng.integers(len(self.videos))))
            raise InputError(f"{REDRAWS} videos in a row have no three frames with one object")
        assert self.static is not None
        pairs, item = self._item(self.static, b"static", k)
        return *static_example(pairs, item, rng, self.augmentation), pairs

    def _item(self, source: Mixture[Dataset], salt: bytes, k: int) -> tuple[Dataset, int]:
        epoch, place = divmod(k, len(source))
        order = _permutation(self.seed, zlib.crc32(salt), epoch, len(source))
        return source.item(epoch, int(order[place]))


@dataclasses.dataclass(frozen=True)
class HostExamples:
    """One host's examples from a step on, in the order of its batches; picklable.

    Attributes:
      examples: of all hosts.
      start_step: step of the first example.
      host_index: of this host.
      batch: examples per step of this host.
    """

    examples: Examples
    start_step: int
    host_index: int
    batch: int

    @property
    def crop(self) -> int:
        """Side of the frames, in pixels."""
        return self.examples.augmentation.crop

    def __call__(self, n: int) -> tuple[str, Triplet]:
        """Makes example `n % batch` of this host's part of step `start_step + n // batch`."""
        step, i = divmod(self.start_step * self.batch + n, self.batch)
        return self.examples(step * self.examples.global_batch + self.host_index * self.batch + i)


def _happens(share: float, rng: np.random.Generator) -> bool:
    """Whether an event of this probability happens; at 0 no random number is used."""
    return share > 0 and rng.random() < share


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning the first time it is given."""
    logging.warning(text)


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, salt: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, salt, epoch]).permutation(length)


def open_examples(data: Any, *, seed: int, global_batch: int) -> Examples:
    """Checks the `data` part of a config and opens its datasets.

    Video datasets that `video_share` never draws from are not opened.

    Args:
      data: the `data` fields of `configs/common.py`, as attributes.
      seed: of the run; not negative.
      global_batch: examples per step, over all hosts.

    Raises:
      InputError: if a value is out of range, or a folder or file is missing.
    """
    if seed < 0:
        raise InputError(f"seed={seed}: expected 0 or more")
    augmentation = Augmentation.from_config(data)
    video_share = parse_shares("data.video_share", data.video_share)
    max_gap = parse_frames("data.max_gap", data.max_gap)
    static = parse_entries(data.static, "data.static")
    videos = parse_entries(data.videos, "data.videos")
    draws_videos = any(value > 0 for _, value in video_share)
    draws_stills = any(value < 1 for _, value in video_share)
    if draws_videos and not videos:
        raise InputError(f"data.video_share={video_share} needs videos, but data.videos is empty")
    if draws_stills and not static:
        raise InputError(
            f"data.video_share={video_share} needs still images too, but data.static is empty; for"
            " videos alone set ((0, 1.0),)"
        )
    shares = {name: getattr(data, name) for name in ("distractors", "lookalikes", "negatives")}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"data.{name}={value}: expected a share from 0 to 1")
        if value and not static:
            raise InputError(f"data.{name}={value} needs still images, but data.static is empty")
    if static and not (draws_stills or data.distractors or data.negatives):
        raise InputError(
            f"data.static names {static[0].text!r}, but data.video_share={video_share} draws videos"
            " alone: lower a share, such as ((0, 0.5),), or leave data.static empty"
        )
    clips = [open_clips(entry, data.root) for entry in videos] if draws_videos else []
    return Examples(
        seed=seed,
        global_batch=global_batch,
        static=_mix(static, [open_pairs(e, data.root) for e in static]) if static else None,
        videos=_mix(videos, _without(data.held_out, videos, clips)) if draws_videos else None,
        video_share=video_share,
        max_gap=max_gap,
        augmentation=augmentation,
        **shares,
    )


def _without(
    held_out: Sequence[str], entries: Sequence[Entry], datasets: Sequence[Clips]
) -> list[Clips]:
    """The datasets without the videos that are held out.

    Raises:
      InputError: if no folder of raw files has such a video, or a dataset has no others.
    """
    if not isinstance(held_out, tuple | list):
        raise InputError(
            f"data.held_out={held_out!r}: expected a tuple, such as ('davis2016/bear',)"
        )
    unknown, remaining = set(held_out), []
    for entry, dataset in zip(entries, datasets, strict=True):
        if isinstance(dataset, FolderVideos):
            unknown -= {clip.name for clip in dataset.clips}
            dataset = FolderVideos(tuple(c for c in dataset.clips if c.name not in held_out))
            if not len(dataset):
                raise entry.error("data.held_out names all of its videos")
        remaining.append(dataset)
    if unknown:
        raise InputError(
            f"data.held_out names {min(unknown)!r}: expected a video of data.videos in a folder of"
            " raw files, such as davis2016/bear"
        )
    return remaining


def _mix(entries: list[Entry], datasets: Sequence[Dataset]) -> Mixture[Dataset]:
    places = [round(e.repeat * len(d)) for e, d in zip(entries, datasets, strict=True)]
    for entry, dataset, count in zip(entries, datasets, places, strict=True):
        if not count:
            raise entry.error(
                f"an epoch would hold none of its {len(dataset)} items: expected at least"
                f" @{1 / len(dataset):.2g}"
            )
    return Mixture(tuple(datasets), tuple(places))
