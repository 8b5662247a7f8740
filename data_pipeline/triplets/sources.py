"""Makes a triplet of a dataset's item.

Raw files (`folders`), built datasets (`built`) and procedural videos (`synthetic`) all provide the
protocols `Pairs` or `Clips`.
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

VIDEO_DRAWS = 20  # of three frames, before the whole video is searched


class NoTriplet(InputError):
    """A video has no three frames that show the same object."""


class Pairs(Protocol):
    """A dataset of images and their masks."""

    def __len__(self) -> int: ...

    def pair(self, item: int) -> tuple[str, np.ndarray, np.ndarray]:
        """A pair's name, "duts/0012.jpg"; image, uint8 `[h, w, 3]`, RGB; labels, uint8 `[h, w]`.

        Raises:
          InputError: if it cannot be read.
        """


class Clip(Protocol):
    """The annotated frames of one video, in temporal order."""

    @property
    def name(self) -> str:
        """With its dataset's: "davis2016/bear"."""

    @property
    def length(self) -> int:
        """Number of frames."""

    def image(self, k: int) -> np.ndarray:
        """Frame k: uint8 `[h, w, 3]`, RGB."""

    def labels(self, k: int) -> np.ndarray:
        """Its labels: uint8 `[h, w]`, 0 background, 1..n the objects, 255 void."""


class Clips(Protocol):
    """A dataset of videos."""

    def __len__(self) -> int: ...

    def clip(self, item: int) -> Clip:
        """A video; InputError if it cannot be read."""


def static_example(
    pairs: Pairs, item: int, rng: np.random.Generator, augmentation: Augmentation
) -> tuple[str, Triplet]:
    """The name and triplet of a random object of one pair; see `one_object`."""
    name, image, mask = one_object(pairs, item, rng)
    return name, static_triplet(image, mask, rng, augmentation)


def one_object(
    pairs: Pairs, item: int, rng: np.random.Generator
) -> tuple[str, np.ndarray, np.ndarray]:
    """A random object of one pair.

    Returns:
      Its name, "static/ecssd/0012.jpg#1" (the instance after #); the image, uint8 `[h, w, 3]`, RGB;
      and the object's mask, uint8 `[h, w]` in {0, 1}.

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
    """The triplet of three frames of one video, in temporal order, and an object in all three.

    Args:
      clips: the dataset.
      item: number of the video.
      rng: source of all randomness.
      augmentation: its settings.
      max_gap: largest distance between neighbours, in annotated frames.

    Returns:
      Its name, "davis2016/bear/object 1/frames 3,5,9" (of the annotated frames, from 0), and the
      triplet.

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
            f"video {clip.name}: {clip.length} frames with a mask, fewer than the 3 of a triplet"
        )
    labels = functools.cache(clip.labels)
    for frames in _random_frames(clip.length, max_gap, rng):
        maps = [labels(k) for k in frames]
        for k, other in zip(frames, maps, strict=True):
            _check_size(f"video {clip.name}: mask {k}", other, f"mask {frames[0]}", maps[0])
        areas = np.stack([_areas(shown) for shown in maps])
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
    """Three frames of an object that random draws missed, as it is rare or small.

    Only consecutive appearances of an object need to be searched: if any three of its frames are
    within the gap, so are three consecutive ones. If none are, the closest three are taken.
    """
    areas = np.stack([_areas(clip.labels(k)) for k in range(clip.length)])
    for seen in (areas >= MIN_TARGET, areas > 0):
        candidates = []  # larger gap, frames, object
        for target in np.flatnonzero(seen.any(axis=0)).tolist():
            shown = np.flatnonzero(seen[:, target])
            gaps = np.diff(shown)
            for i, gap in enumerate(np.maximum(gaps[:-1], gaps[1:]).tolist()):
                candidates.append((gap, tuple(shown[i : i + 3].tolist()), target))
        if candidates:
            limit = max(max_gap, min(gap for gap, _, _ in candidates))
            near = [(frames, target) for gap, frames, target in candidates if gap <= limit]
            return near[rng.integers(len(near))]
    raise NoTriplet(f"video {clip.name}: no three frames show the same object")


def _areas(labels: np.ndarray) -> np.ndarray:
    """The share of the image that each label covers, float64 [256]; 0 for background and void."""
    areas = label_counts(labels) / labels.size
    areas[[0, VOID]] = 0
    return areas


def _check_size(a_name: str, a: np.ndarray, b_name: str, b: np.ndarray) -> None:
    if a.shape[:2] != b.shape[:2]:
        raise InputError(
            f"{a_name} is {size_text(a.shape)} but {b_name} is {size_text(b.shape)}: expected the"
            " same size"
        )
