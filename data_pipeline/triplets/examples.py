"""Every example of a training run, by number: which item of which dataset, drawn how.

Example k is made from k and the run's seed alone; `stream` only runs examples side by side.
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

ITSELF = 0.3  # of the look-alikes are the target itself, pasted in a second time
REDRAWS = 50  # of a video in place of one without a triplet, before giving up


@dataclasses.dataclass(frozen=True)
class Mixture(Generic[Dataset]):
    """Datasets, one after the other, whose items together make an epoch.

    Attributes:
      datasets: at least one.
      places: how many of an epoch's places each has: its length times how often its items repeat.
    """

    datasets: tuple[Dataset, ...]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.places)

    def item(self, epoch: int, place: int) -> tuple[Dataset, int]:
        """The dataset and its item at a place of an epoch.

        A dataset's places go through its items in turn, from epoch to epoch, so that all come
        equally often, whether they repeat or there are fewer places than items.
        """
        for dataset, places in zip(self.datasets, self.places, strict=True):
            if place < places:
                return dataset, (epoch * places + place) % len(dataset)
            place -= places
        raise IndexError(f"place {place} beyond an epoch of {len(self)}")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Every example there will ever be, by number.

    Attributes:
      seed: of the run.
      global_batch: examples a step, over all hosts.
      static: image and mask pairs, if any.
      videos: videos, if any.
      video_share: how much of the stream is videos.
      max_gap: largest distance between neighbours of a video triplet, in frames with a mask.
      distractors: the share of triplets with another object pasted in; those whose query does
        not show the target have none.
      lookalikes: the share of these objects that are like the target: of the target's own image
        set or, for `ITSELF` of them and in videos, the target again. The others are of any set.
      negatives: the share of triplets whose query does not show the target.
      augmentation: how triplets are drawn.
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

        Of a source with n places an epoch, any n examples in a row that start at a multiple of n
        take no place twice; a source that stands alone is thus seen whole in each epoch.

        Returns:
          Where it is from, and the triplet.

        Raises:
          InputError: if a file it needs is bad; the message names the file. A video without three
            frames that show one object is told once, and another drawn in its place.
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
            beside, image, mask = self._any_object(rng)
        elif pairs is None or rng.random() < ITSELF:
            return f"{name} and itself", add_itself(triplet, rng, self.augmentation)
        else:
            beside, image, mask = one_object(pairs, int(rng.integers(len(pairs))), rng)
        # A video's target stays what it is: a pasted still image does not move as videos do.
        may_be_target = pairs is not None
        triplet = add_distractor(
            triplet, image, mask, rng, self.augmentation, may_be_target=may_be_target
        )
        return f"{name} and {beside}", triplet

    def _any_object(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        """Some object of some still image: its name, image and mask."""
        assert self.static is not None  # `open_examples` saw to it
        pairs, item = self.static.item(0, int(rng.integers(len(self.static))))
        return one_object(pairs, item, rng)

    def _plain(self, k: int, rng: np.random.Generator) -> tuple[str, Triplet, Pairs | None]:
        """Example k with nothing pasted in, and the image set that it is from; None for a video."""
        step = k // self.global_batch
        if rng.random() < value_at(self.video_share, step):
            assert self.videos is not None  # `open_examples` saw to it
            clips, item = self._item(self.videos, b"videos", k)
            gap = value_at(self.max_gap, step)
            for _ in range(REDRAWS):
                try:
                    return *video_example(clips, item, rng, self.augmentation, gap), None
                except NoTriplet as fault:
                    tell_once(f"{fault}: another video is drawn in its place")
                    clips, item = self.videos.item(0, int(rng.integers(len(self.videos))))
            raise InputError(f"{REDRAWS} videos in a row have no three frames with one object")
        assert self.static is not None
        pairs, item = self._item(self.static, b"static", k)
        return *static_example(pairs, item, rng, self.augmentation), pairs

    def _item(self, source: Mixture[Dataset], salt: bytes, k: int) -> tuple[Dataset, int]:
        epoch, place = divmod(k, len(source))
        order = _permutation(self.seed, zlib.crc32(salt), epoch, len(source))
        return source.item(epoch, int(order[place]))


def _happens(share: float, rng: np.random.Generator) -> bool:
    """Whether an event of this probability happens; at 0 nothing is drawn."""
    return share > 0 and rng.random() < share


@functools.cache
def tell_once(text: str) -> None:
    """Warns, once."""
    logging.warning(text)


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, salt: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, salt, epoch]).permutation(length)


def open_examples(data: Any, *, seed: int, global_batch: int) -> Examples:
    """Checks the `data` part of a config and opens its datasets.

    Datasets that the schedule of `video_share` never draws from are not opened.

    Args:
      data: the fields of `configs/common.py`, by attribute.
      seed: of the run; not negative.
      global_batch: examples a step, over all hosts.

    Raises:
      InputError: if a value is out of range, or a folder or file is missing.
    """
    if seed < 0:
        raise InputError(f"seed={seed}: expected 0 or more")
    augmentation = Augmentation.from_config(data)
    share = parse_shares("data.video_share", data.video_share)
    gap = _max_gap(data.max_gap)
    static = parse_entries(data.static, "data.static")
    videos = parse_entries(data.videos, "data.videos")
    draws_videos = any(value > 0 for _, value in share)
    draws_stills = any(value < 1 for _, value in share)
    if draws_videos and not videos:
        raise InputError(f"data.video_share={share} asks for videos, but data.videos is empty")
    if draws_stills and not static:
        raise InputError(
            f"data.video_share={share} asks for still images too, but data.static is empty;"
            " videos alone are ((0, 1.0),)"
        )
    shares = {name: getattr(data, name) for name in ("distractors", "lookalikes", "negatives")}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"data.{name}={value}: expected a share from 0 to 1")
        if value and not static:
            raise InputError(
                f"data.{name}={value} asks for objects of still images, but data.static is empty"
            )
    if static and not (draws_stills or data.distractors or data.negatives):
        raise InputError(
            f"data.static names {static[0].text!r}, but data.video_share={share} is videos alone:"
            " lower a share, such as ((0, 0.5),), or leave data.static empty"
        )
    clips = [open_clips(entry, data.root) for entry in videos] if draws_videos else []
    return Examples(
        seed=seed,
        global_batch=global_batch,
        static=_mix(static, [open_pairs(e, data.root) for e in static]) if static else None,
        videos=_mix(videos, _without(data.held_out, videos, clips)) if draws_videos else None,
        video_share=share,
        max_gap=gap,
        augmentation=augmentation,
        **shares,
    )


def _without(
    held_out: Sequence[str], entries: Sequence[Entry], datasets: Sequence[Clips]
) -> list[Clips]:
    """The datasets without the videos that are held out.

    Raises:
      InputError: if there is no such video in a folder of raw files, or no other is left of a set.
    """
    if not isinstance(held_out, tuple | list):
        raise InputError(
            f"data.held_out={held_out!r}: expected a tuple, such as ('davis2016/bear',)"
        )
    unknown, left = set(held_out), []
    for entry, dataset in zip(entries, datasets, strict=True):
        if isinstance(dataset, FolderVideos):
            unknown -= {clip.name for clip in dataset.clips}
            clips = tuple(clip for clip in dataset.clips if clip.name not in held_out)
            if not clips:
                raise entry.error("data.held_out names all of its videos")
            dataset = FolderVideos(clips)
        left.append(dataset)
    if unknown:
        raise InputError(
            f"data.held_out names {min(unknown)!r}: expected videos of data.videos that lie in"
            " folders of raw files, such as davis2016/bear"
        )
    return left


def _mix(entries: list[Entry], datasets: Sequence[Dataset]) -> Mixture[Dataset]:
    places = [round(e.repeat * len(d)) for e, d in zip(entries, datasets, strict=True)]
    for entry, dataset, count in zip(entries, datasets, places, strict=True):
        if not count:
            raise entry.error(
                f"of {len(dataset)} items an epoch would hold none: expected at least"
                f" @{1 / len(dataset):.2g}"
            )
    return Mixture(tuple(datasets), tuple(places))


def _max_gap(max_gap: Any) -> Schedule[int]:
    """The schedule of gaps; one number is one from step 0."""
    if isinstance(max_gap, tuple | list) and len(max_gap) == 1 and isinstance(max_gap[0], int):
        (max_gap,) = max_gap  # the command line makes --config.data.max_gap=5 a tuple
    if isinstance(max_gap, int):
        max_gap = ((0, max_gap),)
    return parse_frames("data.max_gap", max_gap)
