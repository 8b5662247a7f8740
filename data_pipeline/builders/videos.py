"""Records of videos: every frame and mask is checked, and masks become index PNGs.

Frames keep their bytes. A JPEG with a readable header and a proper end is not decoded, which would
take 2 ms per frame instead of 0.04 (576x324): a file cut short is found, damage in its middle is
not. PNGs, and JPEGs with an unusual end, are decoded.
"""

import dataclasses
import functools
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data_pipeline.builders.items import Item, Listing, Record, index_png, unread_files
from data_pipeline.datasets.davis import FRAME_SUFFIXES
from data_pipeline.datasets.targets import MAX_ID
from qmra_jax.errors import InputError
from qmra_jax.images import decode_image, size_text
from qmra_jax.masks import VOID, decode_labels, label_counts, read_labels

Labels = Literal["ids", "merged", "ids or binary"]
"""Meaning of the masks' values: ids; objects merged into one, 0/255 or ids (DAVIS 2016); or ids
unless the first mask that is not empty holds 0 and 255 alone."""


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
    frames, sizes = zip(*map(_read_frame, video.frames), strict=True)
    size = sizes[0]
    for path, frame_size in zip(video.frames, sizes, strict=True):
        if frame_size != size:
            raise InputError(
                f"{path} is {size_text(frame_size)} but {video.frames[0]} is {size_text(size)}"
            )
    masks, pixels = [], np.zeros((len(video.masks), 256), np.int64)
    for path, label_pixels in zip(video.masks, pixels, strict=True):
        labels = read_labels(path)
        if labels.shape != size:
            raise InputError(
                f"{path} is {size_text(labels.shape)} but the frames are {size_text(size)}"
            )
        label_pixels[:] = label_counts(labels)
        _check_unblended(path, label_pixels)
        masks.append(index_png(labels))
    table = _relabelling(video, pixels)
    if relabelled := bool((table != np.arange(256)).any()):
        masks = [index_png(table[decode_labels(mask, video.name)]) for mask in masks]
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


def _read_frame(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A frame's bytes and its (height, width), after checks."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as header:
            kind, size = header.format, (header.height, header.width)
    except (OSError, SyntaxError, ValueError) as error:  # the last two of Pillow, on broken PNGs
        reason = getattr(error, "strerror", None) or "no image, or cut short"
        raise InputError(f"frame {path} cannot be read ({reason}): get it again") from None
    if kind not in ("JPEG", "MPO", "PNG"):
        raise InputError(f"frame {path} is a {kind} file: expected JPEG or PNG")
    if kind == "PNG" or b"\xff\xd9" not in data[-64:]:
        decode_image(data, str(path))
    return data, size


def _check_unblended(path: Path, pixels: np.ndarray) -> None:
    """Refuses a mask with values of 128 to 254; `pixels` int64 [256], its pixels of each value."""
    high = np.flatnonzero(pixels[MAX_ID + 1 : VOID]) + MAX_ID + 1
    if high.size:
        values = ", ".join(map(str, high[:5])) + (", ..." if high.size > 5 else "")
        raise InputError(
            f"mask {path} holds {values}: expected ids 0 to {MAX_ID} with {VOID} as void, or 0 and"
            f" {VOID}; a mask blended by resizing or saved as JPEG needs a threshold first"
        )


def _relabelling(video: VideoFiles, pixels: np.ndarray) -> np.ndarray:
    """The label in the record of each label in the files: uint8 [256].

    0/255 masks can be told from ids with void only over the whole video, as a frame that its
    objects have left may hold nothing but void. As in `datasets.folders`, the first mask that is
    not empty decides; masks that contradict it are refused here.

    Args:
      video: whose masks they are.
      pixels: int64 [masks, 256], each mask's pixels of each label.
    """
    table = np.arange(256, dtype=np.uint8)
    ids, top = pixels[:, 1:VOID].sum(axis=1), pixels[:, VOID]
    if not (ids.any() or top.any()):
        raise InputError(f"video {video.name}: all {len(video.masks)} masks are empty")
    if video.labels == "ids":
        if not ids.any():
            raise InputError(
                f"video {video.name}: its masks hold 0 and {VOID} only: expected ids 1..n, as"
                f" {VOID} is void; masks of one object as 0/255 are DAVIS 2016's, or for vos_folder"
            )
        binary = False
    else:
        binary = not ids[np.flatnonzero(ids + top)[0]]
    if binary:
        # Among 0/255 masks, 0/1 is clear too, and so are ids that are merged anyway.
        unclear = (ids > 0) & (top > 0)
        if video.labels != "merged":
            unclear |= pixels[:, 2:VOID].any(axis=1)
    elif video.labels == "ids" or ((ids > 0) & (top > 0)).any():
        unclear = (top > 0) & (top.sum() > ids.sum())
    else:  # 255 never appears beside an id, so nothing says that it is void
        unclear = top > 0
    if unclear.any():
        raise InputError(_contradiction(video, pixels, int(np.flatnonzero(unclear)[0])))
    if binary:
        table[1:] = 1
    elif video.labels == "merged":
        table[1:VOID] = 1
    return table


def _contradiction(video: VideoFiles, pixels: np.ndarray, unclear: int) -> str:
    """The message that 255 may be the object or void; `unclear` is the mask that does not fit."""
    values = _list(np.flatnonzero(pixels[unclear]).tolist()[:6])
    others = np.flatnonzero(pixels.sum(axis=0)).tolist()
    return (
        f"video {video.name}: its masks hold {_list(others[:6])}{', ...' * (len(others) > 6)},"
        f" {video.masks[unclear].name} {values}: {VOID} may be the object or void; expected 0 and"
        f" {VOID} in all of them, or ids 1..n and less of {VOID}, which is void: write one object"
        " as 1 everywhere, or void as 0"
    )


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
