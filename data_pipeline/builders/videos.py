"""Records of videos: every frame and mask is checked, and masks become index PNGs.

Frames keep their bytes; JPEGs are not decoded completely, see `items.read_encoded`.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipeline.builders.items import (
    Item,
    Listing,
    Record,
    index_png,
    read_encoded,
    unread_files,
)
from data_pipeline.datasets.davis import FRAME_SUFFIXES
from data_pipeline.datasets.targets import MAX_ID
from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.masks import VOID, label_counts, read_labels

Labels = Literal["ids", "merged", "ids or binary"]
"""Meaning of the masks' values: ids; objects merged into one, 0/255 or ids (DAVIS 2016); or ids
unless all masks hold 0 and 255 alone."""


@dataclasses.dataclass(frozen=True)
class VideoFiles:
    """The files of one record.

    Attributes:
      name: of the video, unique in its split.
      frames: JPEG or PNG files, in temporal order.
      masks: PNG files, in temporal order.
      annotated: index into `frames` of each mask.
      labels: meaning of the masks' values.
      categories: id to category, where `meta_file` lists the objects: the masks must show all of
        these and no others. None: the masks alone define the objects.
      meta_file: lists the objects.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    annotated: tuple[int, ...]
    labels: Labels = "ids"
    categories: Mapping[int, str] | None = None
    meta_file: Path | None = None


def video_listing(videos: Iterable[VideoFiles], faults: Iterable[str]) -> Listing:
    """A split's videos; images of other kinds beside a video's files are a fault.

    Args:
      videos: of the split.
      faults: already found, one line each.
    """
    items, unread = [], []
    for video in videos:
        if found := _unread(video):
            unread += found
        else:
            sources = (*video.frames, *video.masks, *([video.meta_file] if video.meta_file else []))
            items.append(Item(video.name, functools.partial(make_record, video), sources))
    return Listing(tuple(items), (*faults, *unread))


def _unread(video: VideoFiles) -> list[str]:
    kinds = ((video.frames, FRAME_SUFFIXES, "frames"), (video.masks, (".png",), "masks"))
    return [
        f"video {video.name}: {fault}"
        for files, suffixes, kind in kinds
        for folder in {path.parent for path in files}
        for fault in unread_files(folder, suffixes, kind)
    ]


def make_record(video: VideoFiles) -> Record:
    """Reads, checks and encodes a video.

    Raises:
      InputError: if a frame or mask cannot be read, a mask is coloured or blended, sizes differ,
        all masks are empty, or the objects are not those expected.
    """
    frames, sizes = zip(*map(read_encoded, video.frames), strict=True)
    size = sizes[0]
    for path, frame_size in zip(video.frames, sizes, strict=True):
        if frame_size != size:
            raise InputError(
                f"{path} is {size_text(frame_size)} but {video.frames[0]} is {size_text(size)}"
            )
    maps = [read_labels(path) for path in video.masks]
    for path, labels in zip(video.masks, maps, strict=True):
        if labels.shape != size:
            raise InputError(
                f"{path} is {size_text(labels.shape)} but the frames are {size_text(size)}"
            )
    pixels = np.stack([label_counts(labels) for labels in maps])
    _check_unblended(video, pixels)
    table = _relabelling(video, pixels)
    masks = [index_png(table[labels]) for labels in maps]
    relabelled = bool((table != np.arange(256))[pixels.any(axis=0)].any())
    objects = _objects(video, pixels, table)
    later = sum(o["first_frame"] > 0 for o in objects)
    features = {
        "name": video.name,
        "frames": list(frames),
        "frame_names": [path.stem for path in video.frames],
        "masks": masks,
        "annotated": list(video.annotated),
        "objects": objects,
    }
    counts = {
        "objects": len(objects),
        "objects that appear after the first frame": later,
        "frames": len(frames),
        "masks": len(masks),
        "frames without a mask": len(frames) - len(masks),
        "videos no triplet can be drawn from": int(all(o["frames"] < 3 for o in objects)),
        "masks relabelled to one object": len(masks) if relabelled else 0,
    }
    return Record(features, counts)


def _check_unblended(video: VideoFiles, pixels: np.ndarray) -> None:
    """Refuses masks with values of 128 to 254; `pixels` as in `_relabelling`."""
    for path, counts in zip(video.masks, pixels, strict=True):
        if high := (np.flatnonzero(counts[MAX_ID + 1 : VOID]) + MAX_ID + 1).tolist():
            raise InputError(
                f"mask {path} holds {_list(high[:6])}: expected ids 0 to {MAX_ID} with {VOID} as"
                f" void, or 0 and {VOID}; threshold a mask that was resized or saved as JPEG"
            )


def _relabelling(video: VideoFiles, pixels: np.ndarray) -> np.ndarray:
    """The label in the record of each label in the files: uint8 [256].

    The whole video decides whether 255 is void: a frame that its objects have left may hold nothing
    else.

    Args:
      video: whose masks they are.
      pixels: int64 [masks, 256], each mask's pixels of each label.
    """
    table = np.arange(256, dtype=np.uint8)
    ids, top = pixels[:, 1:VOID].sum(axis=1), pixels[:, VOID]
    if not (ids.any() or top.any()):
        raise InputError(f"video {video.name}: all {len(video.masks)} masks are empty")
    if not ids.any():
        if video.labels == "ids":
            raise InputError(
                f"video {video.name}: its masks hold 0 and {VOID} only: expected ids 1..n, as"
                f" {VOID} is void; masks of one object as 0/255 are DAVIS 2016's, or for vos_folder"
            )
        table[VOID] = 1
        return table
    is_void = video.labels == "ids" or ((ids > 0) & (top > 0)).any()
    if top.any() and (not is_void or top.sum() > ids.sum()):
        mask = video.masks[int(top.argmax())].name
        raise InputError(
            f"video {video.name}: {VOID} may be the object or void, as its masks hold"
            f" {_list(np.flatnonzero(pixels.sum(axis=0)).tolist()[:6])} ({mask} most of {VOID}):"
            f" expected 0 and {VOID} in all of them, or ids 1..n and less of {VOID}, which is void:"
            " write one object as 1 everywhere, or void as 0"
        )
    if video.labels == "merged":
        table[1:VOID] = 1
    return table


def _objects(video: VideoFiles, pixels: np.ndarray, table: np.ndarray) -> list[dict]:
    """The record's objects; `pixels` as `_relabelling` takes them and `table` as it returns it."""
    first: dict[int, int] = {}
    shown_in: Counter[int] = Counter()
    for index, shown in zip(video.annotated, pixels, strict=True):
        for label in set(table[np.flatnonzero(shown)].tolist()) - {0, VOID}:
            first.setdefault(label, index)
            shown_in[label] += 1
    categories = video.categories
    if categories is not None:
        if never := sorted(categories.keys() - first.keys()):
            raise InputError(f"video {video.name}: object {_list(never)} appears in no mask")
        if unknown := sorted(first.keys() - categories.keys()):
            raise InputError(
                f"video {video.name}: its masks hold object {_list(unknown)}, which"
                f" {video.meta_file} does not name; it names {_list(sorted(categories))}"
            )
    return [
        {
            "id": label,
            "category": (categories or {}).get(label, ""),
            "first_frame": index,
            "frames": shown_in[label],
        }
        for label, index in sorted(first.items())
    ]


def _list(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
