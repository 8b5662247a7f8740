"""Where triplets come from: folders of image and mask pairs, and videos in the DAVIS layout.

What is missing, and images and masks of different size, are found before any work, from names and
file headers alone; contents are checked when a file is read, and the message then names it.
"""

import dataclasses
from pathlib import Path

import numpy as np

from data_pipeline import davis
from data_pipeline.decode import MIN_TARGET, check_same_size, instance_masks, read_image
from data_pipeline.triplets import Augmentation, Triplet, static_triplet, video_triplet
from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, foreground, read_labels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_DRAWS = 20  # of three frames, before the video is searched from end to end


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image, its mask, and the name they go by: "static/ecssd/0012.jpg"."""

    name: str
    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True)
class StaticImages:
    """Image and mask pairs, each of which becomes a triplet."""

    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def triplet(
        self, item: int, rng: np.random.Generator, augmentation: Augmentation
    ) -> tuple[str, Triplet]:
        """The triplet of one pair; where the mask has several instances, of one drawn at random.

        Returns:
          Its id, "static/ecssd/0012.jpg#1" (the instance after #), and the triplet.

        Raises:
          InputError: if a file cannot be read, the sizes differ or the mask is empty.
        """
        pair = self.pairs[item]
        image, labels = read_image(pair.image), read_labels(pair.mask)
        check_same_size(pair.mask, labels, pair.image, image)
        instances = instance_masks(labels)
        if not instances:
            raise InputError(f"mask {pair.mask} is empty: expected a target, or remove the pair")
        instance = rng.choice(sorted(instances))
        triplet = static_triplet(image, instances[instance], rng, augmentation)
        return f"{pair.name}#{instance}", triplet


@dataclasses.dataclass(frozen=True)
class Video:
    """A video with a mask for every frame.

    Attributes:
      name: with its dataset's, "davis2016/bear".
      frames: the images, in time order; at least three.
      annotations: their masks.
      merged: its objects count as one, as in DAVIS 2016; else each is a target by itself.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    merged: bool


@dataclasses.dataclass(frozen=True)
class Videos:
    """Videos, of each of which three frames become a triplet.

    Attributes:
      videos: the videos.
      max_gap: largest distance between neighbouring frames of a triplet, in frames.
    """

    videos: tuple[Video, ...]
    max_gap: int

    def __len__(self) -> int:
        return len(self.videos)

    def triplet(
        self, item: int, rng: np.random.Generator, augmentation: Augmentation
    ) -> tuple[str, Triplet]:
        """Three frames of one video, in temporal order, and one object that shows in all three.

        Returns:
          Its id, "davis2016/bear/object 1/frames 3,5,9" (counted from 0), and the triplet.

        Raises:
          InputError: if a file cannot be read, sizes differ, or no three frames share an object.
        """
        video = self.videos[item]
        frames, target, masks = self._draw(video, rng)
        images = [read_image(video.frames[k]) for k in frames]
        for k, image, mask in zip(frames, images, masks, strict=True):
            check_same_size(video.annotations[k], mask, video.frames[k], image)
        triplet = video_triplet(images, masks, rng, augmentation)
        shown = ",".join(map(str, frames))
        return f"{video.name}/object {target}/frames {shown}", triplet

    def _draw(
        self, video: Video, rng: np.random.Generator
    ) -> tuple[tuple[int, int, int], int, list[np.ndarray]]:
        """Frames, object, and the object's masks uint8 `[h, w]`."""
        for frames in self._candidates(len(video.frames), rng):
            paths = [video.annotations[k] for k in frames]
            labels = [read_labels(path) for path in paths]
            for path, other in zip(paths[1:], labels[1:], strict=True):
                check_same_size(path, other, paths[0], labels[0])
            stack = _merged(video, np.stack(labels)) if video.merged else np.stack(labels)
            shown = [
                target
                for target in np.flatnonzero(np.bincount(stack[0].ravel()))
                if target not in (0, VOID)
                and ((stack == target).mean(axis=(1, 2)) >= MIN_TARGET).all()
            ]
            if shown:
                target = int(rng.choice(shown))
                return frames, target, list((stack == target).astype(np.uint8))
        raise InputError(
            f"video {video.name}: no three frames with gaps of 1 to {self.max_gap} show"
            f" the same object in at least {MIN_TARGET:.2%} of the picture; leave the video out"
        )

    def _candidates(self, length: int, rng: np.random.Generator):
        """Three frames drawn at random, a few times; then every start, next to next."""
        most = min(self.max_gap, (length - 1) // 2)
        for _ in range(VIDEO_DRAWS):
            gaps = rng.integers(1, most + 1, 2)
            first = int(rng.integers(length - gaps.sum()))
            yield first, first + int(gaps[0]), first + int(gaps.sum())
        for first in rng.permutation(length - 2).tolist():
            yield first, first + 1, first + 2


def find_pairs(folder: Path, name: str) -> tuple[Pair, ...]:
    """The pairs of FOLDER/images/STEM.jpg (or .jpeg, .png) and FOLDER/masks/STEM.png.

    Args:
      folder: that holds `images` and `masks`.
      name: of the folder, for the pairs' ids.

    Raises:
      InputError: if a folder is missing or empty, or an image or a mask has no partner.
    """
    images = _by_stem(folder / "images", IMAGE_SUFFIXES, "JPEG or PNG images")
    masks = _by_stem(folder / "masks", (".png",), "PNG masks")
    if unpaired := images.keys() ^ masks.keys():
        files = [str((images | masks)[stem]) for stem in unpaired]
        raise InputError(
            f"static folder {folder} has {len(images)} images and {len(masks)} masks: expected one"
            f" mask an image, of the same name; without a partner: {davis.shortened(files)}"
        )
    return tuple(
        Pair(f"{name}/{image.name}", image, masks[stem]) for stem, image in sorted(images.items())
    )


def find_videos(root: Path, name: str, split: str, year: str = "2016") -> tuple[Video, ...]:
    """The videos of a split of a dataset in the DAVIS layout.

    Args:
      root: of the dataset.
      name: of the dataset, for the videos' names.
      split: such as "train".
      year: of the split's list; in "2016" all objects of a video are one.

    Raises:
      InputError: as `davis.find_sequences`, or if a video has fewer than three frames.
    """
    found = davis.find_sequences(root, year=year, split=split)
    if short := [sequence.name for sequence in found if len(sequence.frames) < 3]:
        raise InputError(
            f"split {split} of {root}: fewer than the 3 frames of a triplet in"
            f" {davis.shortened(short)}; leave it out of the split's list"
        )
    return tuple(
        Video(f"{name}/{sequence.name}", sequence.frames, sequence.annotations, year == "2016")
        for sequence in found
    )


def _merged(video: Video, labels: np.ndarray) -> np.ndarray:
    try:
        return foreground(labels).astype(np.uint8)
    except InputError as error:
        raise InputError(f"video {video.name}: {error}") from None


def _by_stem(folder: Path, suffixes: tuple[str, ...], kind: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"static folder {folder.parent}: expected a folder {folder}, with {kind}")
    files = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "."]
    if not files:
        raise InputError(f"{folder}: expected {kind}, found none")
    by_stem = {p.stem: p for p in files}
    if len(by_stem) < len(files):
        twice = [str(p) for p in files if by_stem[p.stem] != p]
        raise InputError(f"{folder}: the same name with two endings: {davis.shortened(twice)}")
    return by_stem
