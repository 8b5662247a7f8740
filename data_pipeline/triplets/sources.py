"""From a dataset's item to a triplet, wherever the item comes from.

Raw files (`folders`), what our builders wrote (`built`) and made-up videos (`synthetic`) all give
pairs or clips; from there on there is one way.
"""

import functools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from data_pipeline.datasets.targets import MIN_TARGET, instance_masks
from data_pipeline.triplets.triplets import Augmentation, Triplet, static_triplet, video_triplet
from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.masks import VOID, label_counts

VIDEO_DRAWS = 20  # of three frames, before the video is searched from end to end


class NoTriplet(InputError):
    """A video has no three frames that show the same object."""


class Pairs(Protocol):
    """A dataset of images and their masks."""

    def __len__(self) -> int: ...

    def pair(self, item: int) -> tuple[str, np.ndarray, np.ndarray]:
        """A pair's name, "duts/0012.jpg", its image and its labels.

        Returns:
          The name, uint8 `[h, w, 3]` RGB, and uint8 `[h, w]` as `instance_masks` takes it.

        Raises:
          InputError: if it cannot be read; the message names it.
        """


class Clip(Protocol):
    """One video: those of its frames that have a mask, by number and in time order."""

    @property
    def name(self) -> str:
        """With its dataset's: "davis2016/bear"."""

    @property
    def length(self) -> int:
        """How many frames there are."""

    def image(self, k: int) -> np.ndarray:
        """Frame k: uint8 `[h, w, 3]`, RGB."""

    def labels(self, k: int) -> np.ndarray:
        """Its labels: uint8 `[h, w]`, 0 background, 1..n the objects, 255 void."""


class Clips(Protocol):
    """A dataset of videos."""

    def __len__(self) -> int: ...

    def clip(self, item: int) -> Clip:
        """One of them.

        Raises:
          InputError: if it cannot be read; the message names it.
        """


def static_example(
    pairs: Pairs, item: int, rng: np.random.Generator, augmentation: Augmentation
) -> tuple[str, Triplet]:
    """The triplet of one pair; where the mask has several instances, of one drawn at random.

    Returns:
      Its id, "static/ecssd/0012.jpg#1" (the instance after #), and the triplet.

    Raises:
      InputError: if a file cannot be read, the sizes differ or the mask is empty.
    """
    name, image, mask = one_object(pairs, item, rng)
    return name, static_triplet(image, mask, rng, augmentation)


def one_object(
    pairs: Pairs, item: int, rng: np.random.Generator
) -> tuple[str, np.ndarray, np.ndarray]:
    """An image and one object of it, drawn at random where its mask has several instances.

    Returns:
      Its id, as `static_example`'s, uint8 `[h, w, 3]` RGB, and uint8 `[h, w]` in {0, 1}.

    Raises:
      InputError: if a file cannot be read, the sizes differ or the mask is empty.
    """
    name, image, labels = pairs.pair(item)
    _check_size(f"{name}: its mask", labels, "its image", image)
    instances = instance_masks(labels, name)
    if not instances:
        raise InputError(f"{name}: its mask is empty: expected a target, or remove the pair")
    instance = rng.choice(sorted(instances))
    return f"{name}#{instance}", image, instances[instance]


def video_example(
    clips: Clips, item: int, rng: np.random.Generator, augmentation: Augmentation, max_gap: int
) -> tuple[str, Triplet]:
    """Three frames of one video, in temporal order, and one object that shows in all three.

    Args:
      clips: the dataset.
      item: the video's number.
      rng: where everything random comes from.
      augmentation: what else is drawn.
      max_gap: largest distance between neighbours, in frames that have a mask.

    Returns:
      Its id, "davis2016/bear/object 1/frames 3,5,9" (counted from 0, of those with a mask), and
      the triplet.

    Raises:
      NoTriplet: if no three frames share an object.
      InputError: if a file cannot be read, or sizes differ.
    """
    clip = clips.clip(item)
    frames, target, masks = _draw(clip, max_gap, rng)
    images = [clip.image(k) for k in frames]
    for k, image, mask in zip(frames, images, masks, strict=True):
        _check_size(f"video {clip.name}: mask {k}", mask, f"frame {k}", image)
    shown = ",".join(map(str, frames))
    triplet = video_triplet(images, masks, rng, augmentation)
    return f"{clip.name}/object {target}/frames {shown}", triplet


def _draw(
    clip: Clip, max_gap: int, rng: np.random.Generator
) -> tuple[tuple[int, int, int], int, list[np.ndarray]]:
    """Frames, object, and the object's masks uint8 `[h, w]`."""
    if clip.length < 3:
        raise NoTriplet(
            f"video {clip.name}: {clip.length} frames with a mask are fewer than the 3 of a triplet"
        )
    labels = functools.cache(clip.labels)
    for frames in _random_frames(clip.length, max_gap, rng):
        first, second, third = (labels(k) for k in frames)
        _check_size(f"video {clip.name}: mask {frames[1]}", second, f"mask {frames[0]}", first)
        _check_size(f"video {clip.name}: mask {frames[2]}", third, f"mask {frames[0]}", first)
        areas = np.stack([_areas(first), _areas(second), _areas(third)])
        if (targets := np.flatnonzero((areas >= MIN_TARGET).all(axis=0))).size:
            target = int(rng.choice(targets))
            break
    else:
        frames, target = _search(clip, max_gap, rng)
    return frames, target, [(labels(k) == target).astype(np.uint8) for k in frames]


def _random_frames(
    length: int, max_gap: int, rng: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    most = min(max_gap, (length - 1) // 2)
    for _ in range(VIDEO_DRAWS):
        gaps = rng.integers(1, most + 1, 2)
        first = int(rng.integers(length - gaps.sum()))
        yield first, first + int(gaps[0]), first + int(gaps.sum())


def _search(clip: Clip, max_gap: int, rng: np.random.Generator) -> tuple[tuple[int, int, int], int]:
    """Three frames and an object that is too rare to be drawn by luck; or else too small.

    If any three frames with such gaps show an object, so do three between which it is never seen.
    Where there are none, the closest three do, whatever their gaps.
    """
    areas = np.stack([_areas(clip.labels(k)) for k in range(clip.length)])
    for seen in (areas >= MIN_TARGET, areas > 0):
        found = []  # the larger gap, the frames, the object
        for target in np.flatnonzero(seen.any(axis=0)).tolist():
            shown = np.flatnonzero(seen[:, target])
            gaps = np.diff(shown)
            for i, gap in enumerate(np.maximum(gaps[:-1], gaps[1:]).tolist()):
                found.append((gap, tuple(shown[i : i + 3].tolist()), target))
        if found:
            limit = max(max_gap, min(gap for gap, _, _ in found))
            near = [(frames, target) for gap, frames, target in found if gap <= limit]
            return near[rng.integers(len(near))]
    raise NoTriplet(f"video {clip.name}: no three frames show the same object")


def _areas(labels: np.ndarray) -> np.ndarray:
    """The share of the picture that each label covers; 0 for background and void."""
    areas = label_counts(labels) / labels.size
    areas[[0, VOID]] = 0
    return areas


def _check_size(a_name: str, a: np.ndarray, b_name: str, b: np.ndarray) -> None:
    if a.shape[:2] != b.shape[:2]:
        raise InputError(
            f"{a_name} is {size_text(a.shape)} but {b_name} is {size_text(b.shape)}: expected the"
            " same size"
        )
