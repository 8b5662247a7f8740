"""From a video's files to its record: every frame and mask is checked, masks become index PNGs.

Frames keep their bytes. A JPEG is not decoded to be checked where its header can be read and it
ends as a whole one does: 0.04 ms a frame where decoding takes 2 (576x324). So a file cut short is
found and one damaged in its middle is not. A PNG, or a JPEG with an odd end, is decoded.
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

from data_pipeline.builders.items import Item, Listing, Record, index_png
from data_pipeline.builders.unread import unread_files
from data_pipeline.datasets.davis import FRAME_SUFFIXES
from data_pipeline.datasets.targets import MAX_ID
from qmra_jax.errors import InputError
from qmra_jax.images import decode_image, size_text
from qmra_jax.masks import VOID, decode_labels, read_labels

Labels = Literal["ids", "merged", "ids or binary"]
"""What a video's masks hold: ids as they are; objects to merge into one, 0/255 or not (DAVIS 2016);
or ids, unless the first that is not empty holds nothing but 0 and 255."""


@dataclasses.dataclass(frozen=True)
class VideoFiles:
    """What one record is made from.

    Attributes:
      name: of the video, unique in its split.
      frames: JPEG or PNG files, in time order.
      masks: PNG files, in time order.
      annotated: for each mask the index of its frame.
      labels: what the masks hold.
      categories: of each object by its id, where the dataset names its objects: the masks must then
        hold all of these and no others. None where the masks alone tell.
      told_by: the file that names them.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    annotated: tuple[int, ...]
    labels: Labels = "ids"
    categories: Mapping[int, str] | None = None
    told_by: Path | None = None

    def item(self) -> Item:
        """The record to be made."""
        files = (*self.frames, *self.masks, *([self.told_by] if self.told_by else []))
        return Item(self.name, functools.partial(make_record, self), files)

    def unread(self) -> list[str]:
        """A line for each of its folders that holds images of kinds that are not read."""
        folders = (
            *((folder, FRAME_SUFFIXES, "frames") for folder in {p.parent for p in self.frames}),
            *((folder, (".png",), "masks") for folder in {p.parent for p in self.masks}),
        )
        faults = [fault for args in folders for fault in unread_files(*args)]
        return [f"video {self.name}: {fault}" for fault in faults]


def video_listing(videos: Iterable[VideoFiles], faults: Iterable[str]) -> Listing:
    """A split's videos; one beside whose files lie images that are not read is a fault.

    Args:
      videos: of the split.
      faults: found already, a line each.
    """
    items, unread = [], []
    for video in videos:
        if found := video.unread():
            unread += found
        else:
            items.append(video.item())
    return Listing(tuple(items), (*faults, *unread))


def make_record(video: VideoFiles) -> Record:
    """Reads, checks and encodes a video, one file at a time.

    Raises:
      InputError: if a frame is no image or cut short; a mask cannot be read, holds colours or
        blended edges; sizes differ; all masks are empty; or the objects are not those expected.
    """
    frames, size = [], None
    for path in video.frames:
        data, found = _read_frame(path)
        if size is not None and found != size:
            raise InputError(
                f"{path} is {size_text(found)} but {video.frames[0]} is {size_text(size)}"
            )
        frames.append(data)
        size = found
    if size is None:
        raise InputError(f"video {video.name} has no frames")
    masks, pixels = [], np.zeros((len(video.masks), 256), np.int64)
    for path, shown in zip(video.masks, pixels, strict=True):
        labels = read_labels(path)
        if labels.shape != size:
            raise InputError(
                f"{path} is {size_text(labels.shape)} but the frames are {size_text(size)}:"
                " expected the same size"
            )
        shown[:] = np.bincount(labels.ravel(), minlength=256)
        _check_unblended(path, shown)
        masks.append(index_png(labels))
    table = _relabelling(video, pixels)
    if relabelled := bool((table != np.arange(256)).any()):
        masks = [index_png(table[decode_labels(mask, video.name)]) for mask in masks]
    objects = _objects(video, pixels, table)
    later = sum(o["first_frame"] > 0 for o in objects)
    features = {
        "name": video.name,
        "frames": frames,
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
    """A frame's bytes and its (height, width), known to be whole."""
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
    """Raises if a mask, given the pixels of each label, holds what can be no object."""
    high = np.flatnonzero(pixels[MAX_ID + 1 : VOID]) + MAX_ID + 1
    if high.size:
        values = ", ".join(map(str, high[:5])) + (", ..." if high.size > 5 else "")
        raise InputError(
            f"mask {path} holds {values}: expected ids 0 to {MAX_ID} with {VOID} as void, or 0 and"
            f" {VOID}; a mask blended by resizing or saved as JPEG needs a threshold first"
        )


def _relabelling(video: VideoFiles, pixels: np.ndarray) -> np.ndarray:
    """uint8 [256], each label's new one in the record, given int64 [masks, 256], pixels of each.

    0/255 and ids with void can only be told apart over the whole video: its objects may have left
    a frame that holds nothing but void. As `datasets.folders` has it, the first mask that is not
    empty tells; here, where a person can still mend them, masks that contradict it are refused.
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
        # Beside 0/255 masks, those of 0 and 1 alone, or whose objects merge anyway, are as clear.
        unclear = (ids > 0) & (top > 0)
        if video.labels != "merged":
            unclear |= pixels[:, 2:VOID].any(axis=1)
    elif video.labels == "ids" or ((ids > 0) & (top > 0)).any():
        unclear = (top > 0) & (top.sum() > ids.sum())
    else:  # nothing tells that 255 is void: the masks that hold it hold nothing else
        unclear = top > 0
    if unclear.any():
        raise InputError(_contradiction(video, pixels, int(np.flatnonzero(unclear)[0])))
    if binary:
        table[1:] = 1
    elif video.labels == "merged":
        table[1:VOID] = 1
    return table


def _contradiction(video: VideoFiles, pixels: np.ndarray, unclear: int) -> str:
    """Says that 255 may be the object or void, given the mask that does not fit the others."""
    values = _list(np.flatnonzero(pixels[unclear]).tolist()[:6])
    others = np.flatnonzero(pixels.sum(axis=0)).tolist()
    return (
        f"video {video.name}: its masks hold {_list(others[:6])}{', ...' * (len(others) > 6)},"
        f" {video.masks[unclear].name} {values}: {VOID} may be the object or void; expected 0 and"
        f" {VOID} in all of them, or ids 1..n and less of {VOID}, which is void: write one object"
        " as 1 everywhere, or void as 0"
    )


def _objects(video: VideoFiles, pixels: np.ndarray, table: np.ndarray) -> list[dict]:
    """The record's objects, given int64 [masks, 256], the pixels of each label in the files."""
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
                f" {video.told_by} does not name; it names {_list(sorted(categories))}"
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
