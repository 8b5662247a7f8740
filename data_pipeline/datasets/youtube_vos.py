"""Videos in YouTube-VOS's official layout, common to its 2018 and 2019 editions.

    ROOT/train/JPEGImages/VIDEO/00000.jpg      frames, every fifth of the original video
    ROOT/train/Annotations/VIDEO/00000.png     a palette PNG of each of them
    ROOT/train/meta.json                       each object's category and the frames that show it
    ROOT/valid/...                             the same, but masks only where objects first appear
    ROOT/valid_all_frames/...                  every frame of valid's videos; masks as in valid

`valid_all_frames.zip` unpacks with or without another folder `valid` inside, depending on the
edition; both are read. Only names are checked here, not the files' contents.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.datasets.davis import FRAME_SUFFIXES, files_in, folders_in, shortened
from qmra_jax.errors import InputError
from qmra_jax.masks import VOID

SPLITS = ("train", "valid", "valid_all_frames")
_ALL_FRAMES = ("valid_all_frames", "valid_all_frames/valid", "valid_all_frames/valid_all_frames")
_SHOWN_FAULTS = 5


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a video, from meta.json.

    Attributes:
      id: its label in the masks, from 1.
      category: such as "penguin".
      first_frame: index into the video's frames of the first listed frame, where the object appears
        (and where `valid` has its mask).
      listed: names of the frames that show it, "00150", in temporal order; in `valid` the scored
        frames.
    """

    id: int
    category: str
    first_frame: int
    listed: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Video:
    """One video and its masks.

    Attributes:
      name: of its folder, such as "003234408d".
      frames: the images, in temporal order.
      masks: the masks, in temporal order.
      annotated: index into `frames` of each mask.
      objects: from meta.json, by id.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    annotated: tuple[int, ...]
    objects: tuple[Object, ...]


@dataclasses.dataclass(frozen=True)
class SplitVideos:
    """The content of a split.

    Attributes:
      videos: those without faults, by name.
      faults: one line per faulty video.
      meta: path of meta.json.
    """

    videos: tuple[Video, ...]
    faults: tuple[str, ...]
    meta: Path

    def complete(self) -> tuple[Video, ...]:
        """The videos.

        Raises:
          InputError: if there is any fault.
        """
        if self.faults:
            rest = len(self.faults) - _SHOWN_FAULTS
            more = f"; and {rest} more" if rest > 0 else ""
            raise InputError(
                f"YouTube-VOS, {len(self.faults)} videos with faults:"
                f" {'; '.join(self.faults[:_SHOWN_FAULTS])}{more}: repair these videos, or remove"
                " them from the folders and from meta.json"
            )
        return self.videos


def splits_in(root: Path) -> tuple[str, ...]:
    """The `SPLITS` that have frames in this root."""
    return tuple(split for split in SPLITS if _frames_folder(Path(root), split) is not None)


def has_layout(folder: Path) -> bool:
    """Whether a folder is a split in this layout; meta.json distinguishes it from DAVIS's."""
    return (folder / "meta.json").is_file() and (folder / "JPEGImages").is_dir()


def find_split(root: Path, split: str) -> SplitVideos:
    """The videos of an official split.

    Args:
      root: contains some of the folders `train`, `valid`, `valid_all_frames`.
      split: one of `SPLITS`. In `train` every frame must have a mask.

    Raises:
      InputError: if the split's folders or its meta.json are missing or unreadable.
    """
    root = Path(root)
    frames = _frames_folder(root, split) if split in SPLITS else None
    if frames is None:
        raise InputError(
            f"split {split} of {root}: expected a folder {split}/JPEGImages; found"
            f" {', '.join(splits_in(root)) or 'none'} of {', '.join(SPLITS)}"
        )
    if split != "valid_all_frames":
        return find_videos(frames, every_frame=split == "train")
    if not (root / "valid").is_dir():
        raise InputError(
            f"split {split} of {root}: expected {root / 'valid'} as well, for its masks and"
            " meta.json: unpack valid.zip beside it"
        )
    return find_videos(frames, masks_folder=root / "valid", every_frame=False)


def find_videos(
    folder: Path, *, masks_folder: Path | None = None, every_frame: bool = True
) -> SplitVideos:
    """The videos of one split's folder, and their faults.

    Faults are: a video that is missing from meta.json, the frames or the masks; an object without
    frames, with absent frames or with an id outside 1..254; a mask without a frame; two frames of
    one name; a missing mask.

    Args:
      folder: contains `JPEGImages`.
      masks_folder: contains `Annotations` and `meta.json`; None: the same folder.
      every_frame: whether every frame must have a mask, as in `train`, or only those in which an
        object first appears, as in `valid`.

    Raises:
      InputError: if a folder or meta.json is missing, or meta.json cannot be read.
    """
    folder = Path(folder)
    masks_folder = Path(masks_folder or folder)
    frames_root, masks_root = folder / "JPEGImages", masks_folder / "Annotations"
    for needed in (frames_root, masks_root):
        if not needed.is_dir():
            raise InputError(f"YouTube-VOS: no folder {needed}: expected {needed}/VIDEO")
    meta = masks_folder / "meta.json"
    objects = _read_meta(meta)
    places = {
        str(frames_root): set(folders_in(frames_root)),
        str(masks_root): set(folders_in(masks_root)),
        str(meta): objects.keys(),
    }
    videos, faults = [], []
    for name in sorted(set().union(*places.values())):
        if absent := [place for place, names in places.items() if name not in names]:
            faults.append(f"video {name}: not in {' and not in '.join(absent)}")
            continue
        frames = files_in(frames_root, name, FRAME_SUFFIXES, "frames", allow_none=True)
        masks = files_in(masks_root, name, {".png"}, "masks", allow_none=True)
        if found := list(_faults(frames, masks, objects[name], every_frame)):
            faults.append(f"video {name}: {'; '.join(found)}")
            continue
        index = {path.stem: k for k, path in enumerate(frames)}
        annotated = tuple(index[path.stem] for path in masks)
        placed = tuple(
            dataclasses.replace(o, first_frame=min(index[frame] for frame in o.listed))
            for o in objects[name]
        )
        videos.append(Video(name, frames, masks, annotated, placed))
    return SplitVideos(tuple(videos), tuple(faults), meta)


def _frames_folder(root: Path, split: str) -> Path | None:
    """The folder that contains a split's `JPEGImages`."""
    folders = _ALL_FRAMES if split == "valid_all_frames" else (split,)
    return next((root / f for f in folders if (root / f / "JPEGImages").is_dir()), None)


def _faults(
    frames: tuple[Path, ...], masks: tuple[Path, ...], objects: list[Object], every_frame: bool
) -> Iterator[str]:
    """The faults of one video."""
    names, masked = {path.stem for path in frames}, {path.stem for path in masks}
    if not frames:
        yield "its folder holds no frames"
        return
    if len(names) < len(frames):
        yield "two frames share a name"
    if not objects:
        yield "meta.json names no objects"
    for o in objects:
        if not 1 <= o.id < VOID:
            yield f"object id {o.id} in meta.json: expected 1 to {VOID - 1}"
        if not o.listed:
            yield f"meta.json lists no frames of object {o.id}"
        if absent := set(o.listed) - names:
            yield f"meta.json names absent frames of object {o.id}: {shortened(absent)}"
    if extra := masked - names:
        yield f"masks without a frame: {shortened(extra)}"
    required = names if every_frame else {o.listed[0] for o in objects if o.listed} & names
    if missing := required - masked:
        kind = "frames" if every_frame else "frames in which objects first appear,"
        yield f"{kind} without a mask: {shortened(missing)}"


def _read_meta(path: Path) -> dict[str, list[Object]]:
    """Each video's objects, with `first_frame` still 0."""
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"YouTube-VOS: no file {path}, which lists each video's objects: use the official one"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as JSON ({reason}): download it again") from None
    try:
        return {
            name: sorted(
                (_object(key, entry) for key, entry in video["objects"].items()),
                key=lambda o: o.id,
            )
            for name, video in meta["videos"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is not YouTube-VOS's ({type(error).__name__}: {error}): expected"
            ' {"videos": {VIDEO: {"objects": {"1": {"category": ..., "frames": [...]}}}}}'
        ) from None


def _object(key: str, entry: dict[str, Any]) -> Object:
    frames = entry["frames"]
    if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
        raise TypeError(f"frames of object {key} are {frames!r}")
    return Object(int(key), str(entry.get("category", "")), 0, tuple(sorted(set(frames))))
