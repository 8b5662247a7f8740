"""Raw files as pairs and videos to draw triplets from, without a build.

    FOLDER/images/STEM.jpg (.jpeg, .png)      FOLDER/masks/STEM.png
    FOLDER/JPEGImages/480p/VIDEO/00000.jpg    FOLDER/Annotations/480p/VIDEO/00000.png       DAVIS
    FOLDER/JPEGImages/VIDEO, FOLDER/Annotations/VIDEO, FOLDER/meta.json               YouTube-VOS

Missing files and differing sizes are found when a folder is opened, from names and file headers;
contents are checked when a file is read.
"""

import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path

import numpy as np

from data_pipeline.datasets import davis, youtube_vos
from qmra_jax.errors import InputError
from qmra_jax.images import check_headers, read_image
from qmra_jax.masks import VOID, objects_in, read_labels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIXES = (".png",)


@dataclasses.dataclass(frozen=True)
class FolderPairs:
    """Image and mask files; see `data_pipeline.triplets.sources.Pairs`.

    Attributes:
      name: of the dataset, a prefix of the pairs' names.
      files: each image and its mask.
    """

    name: str
    files: tuple[tuple[Path, Path], ...]

    def __len__(self) -> int:
        return len(self.files)

    def pair(self, item: int) -> tuple[str, np.ndarray, np.ndarray]:
        image, mask = self.files[item]
        return f"{self.name}/{image.name}", read_image(image), read_labels(mask)


@dataclasses.dataclass(frozen=True)
class FolderClip:
    """The annotated frames of a video; see `data_pipeline.triplets.sources.Clip`.

    Attributes:
      name: with its dataset's, "davis2016/bear".
      frames: the images, in temporal order.
      masks: of these frames.
      merged: whether its objects count as one, as in DAVIS 2016.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    merged: bool = False

    @property
    def length(self) -> int:
        return len(self.masks)

    def image(self, k: int) -> np.ndarray:
        return read_image(self.frames[k])

    def labels(self, k: int) -> np.ndarray:
        """The mask of frame k; 0/1 where the masks are binary or the objects merged."""
        labels = read_labels(self.masks[k])
        void = labels == VOID
        if void.any():
            binary, highest = _is_binary(self.masks), int(labels[~void].max(initial=0))
            if highest >= (1 if binary else 128):
                raise InputError(
                    f"mask {self.masks[k]} holds 255 and also {highest}: expected 0 and 255, or"
                    " labels 0..n with 255 as void; threshold a 0/255 mask that was resized"
                )
            if binary:
                return void.astype(np.uint8)
        return ((labels != 0) & ~void).astype(np.uint8) if self.merged else labels


@functools.cache
def _is_binary(masks: tuple[Path, ...]) -> bool:
    """Whether 255 is the object: the first mask that is not empty holds 0 and 255 alone.

    A single frame cannot tell: once all objects have left, a map of ids may hold nothing but void.
    """
    for path in masks:
        labels = read_labels(path)
        if labels.any():
            return not objects_in(labels)
    return True


@dataclasses.dataclass(frozen=True)
class FolderVideos:
    """Videos in folders; see `data_pipeline.triplets.sources.Clips`."""

    clips: tuple[FolderClip, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def clip(self, item: int) -> FolderClip:
        return self.clips[item]


def open_pairs(folder: Path, name: str) -> FolderPairs:
    """The pairs of a folder with `images` and `masks`; `name` is a prefix of their names.

    Raises:
      InputError: if a folder is missing or empty, an image or mask has no partner, sizes differ, or
        a file is not an image.
    """
    if not (folder / "images").is_dir():
        raise InputError(
            f"static folder {folder}: expected a folder {folder / 'images'} and one of masks"
            " (build official downloads first: python -m data_pipeline.build --list)"
        )
    images, second = files_by_stem(folder / "images", IMAGE_SUFFIXES, "images")
    masks, _ = files_by_stem(folder / "masks", MASK_SUFFIXES, "masks")
    if second:
        raise InputError(
            f"{folder}: the same name with two suffixes: {davis.shortened(map(str, second))}"
        )
    if unpaired := images.keys() ^ masks.keys():
        files = [str((images | masks)[stem]) for stem in unpaired]
        raise InputError(
            f"static folder {folder} has {len(images)} images and {len(masks)} masks: expected one"
            f" mask per image, of the same name; without a partner: {davis.shortened(files)}"
        )
    pairs = tuple((image, masks[stem]) for stem, image in sorted(images.items()))
    check_headers(pairs)
    return FolderPairs(name, pairs)


def files_by_stem(
    folder: Path, suffixes: Collection[str], kind: str
) -> tuple[dict[str, Path], list[Path]]:
    """The files of a folder by their names without suffix: the first of each name, and the others.

    Args:
      folder: that contains them.
      suffixes: of the files, in lower case.
      kind: of the files, in the plural, for messages.

    Raises:
      InputError: if there is no such folder or file.
    """
    expected = f"expected {kind} ({', '.join(suffixes)})"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {expected} in it")
    by_stem: dict[str, Path] = {}
    files = sorted(davis.visible_files(folder, suffixes))
    second = [path for path in files if by_stem.setdefault(path.stem, path) != path]
    if not by_stem:
        found = davis.shortened(path.name for path in folder.iterdir()) or "nothing"
        raise InputError(f"{folder}: {expected}, found {found}")
    return by_stem, second


def open_videos(
    folder: Path, name: str, split: str | None = None, year: str | None = None
) -> FolderVideos:
    """The videos of a folder in the layout of DAVIS or YouTube-VOS.

    Args:
      folder: of the dataset, or of one of YouTube-VOS's splits.
      name: of the dataset, a prefix of the videos' names.
      split: such as "train"; None for a folder without lists: all videos.
      year: of the split's list. None: 2016 or 2017, whichever has it. In 2016 all objects of a
        video are one.

    Raises:
      InputError: as `davis.find_sequences` and `youtube_vos.find_videos`; or if the folder has
        splits and none is named, a video has fewer than three masks, or sizes differ.
    """
    if youtube_vos.has_layout(folder) or youtube_vos.splits_in(folder):
        clips = _youtube_vos(folder, name, split, year)
    else:
        clips = _davis(folder, name, split, year)
    if short := [clip.name for clip in clips if clip.length < 3]:
        raise InputError(
            f"{folder}: fewer than the 3 masks of a triplet in {davis.shortened(short)}: leave"
            f" {'it' if len(short) == 1 else 'them'} out"
        )
    check_headers(pair for clip in clips for pair in zip(clip.frames, clip.masks, strict=True))
    return FolderVideos(clips)


def _davis(folder: Path, name: str, split: str | None, year: str | None) -> tuple[FolderClip, ...]:
    if split is None and (lists := davis.available_splits(folder)):
        list_year, _, listed = lists[0].rpartition("/")
        example = ":".join(part for part in (name, listed, list_year) if part)
        raise InputError(
            f"{folder} has the splits {', '.join(lists)}: name one of them, such as {example}"
        )
    if split and year is None:
        years = [y for y in ("2016", "2017") if davis.has_split(folder, y, split)]
        if len(years) > 1:
            raise InputError(
                f"{folder} has the list {split} of 2016 and of 2017: expected {name}:{split}:2016"
                f" (all objects of a video are one) or {name}:{split}:2017 (each by itself)"
            )
    year = "2016" if year is None else year
    merged = split is not None and year == "2016"
    masks: davis.Masks = "every" if split else "some"
    return tuple(
        FolderClip(
            f"{name}/{sequence.name}",
            tuple(sequence.frames[k] for k in sequence.annotated),
            sequence.annotations,
            merged,
        )
        for sequence in davis.find_sequences(folder, year=year, split=split, masks=masks)
    )


def _youtube_vos(
    folder: Path, name: str, split: str | None, year: str | None
) -> tuple[FolderClip, ...]:
    if year is not None:
        raise InputError(f"{folder} is YouTube-VOS's, whose splits have no year: leave out {year}")
    if youtube_vos.has_layout(folder):
        if split is not None:
            raise InputError(f"{folder} is a split by itself: leave out {split}")
        # Masks may be missing, as in `valid`: such frames are never drawn.
        videos = youtube_vos.find_videos(folder, every_frame=folder.name == "train")
    elif split is None:
        splits = youtube_vos.splits_in(folder)
        raise InputError(
            f"{folder} has the splits {', '.join(splits)}: name one of them, such as"
            f" {name}:{splits[0]}"
        )
    else:
        videos = youtube_vos.find_split(folder, split)
    return tuple(
        FolderClip(
            f"{name}/{video.name}", tuple(video.frames[k] for k in video.annotated), video.masks
        )
        for video in videos.complete()
    )
