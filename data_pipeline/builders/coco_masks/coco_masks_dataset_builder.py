"""COCO 2017: instance segmentations of 118,287 + 5,000 images as masks of ids."""

import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask

from data_pipeline.builders.base import PairBuilder
from data_pipeline.builders.items import (
    IMAGE_KINDS,
    Item,
    Listing,
    Record,
    SkippedByDesign,
    index_png,
    read_encoded,
)
from data_pipeline.builders.pairs import find_root
from data_pipeline.datasets.davis import visible_files
from data_pipeline.datasets.targets import MAX_ID
from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.masks import VOID, objects_in

_FOLDERS = {"train": "train2017", "val": "val2017"}


class Builder(PairBuilder):
    """COCO instances as masks, splits `train` and `val`.

    Larger instances are painted first, so that small ones stay on top; crowds are void, below all
    instances. Images without instances are left out.
    """

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "COCO 2017's instance segmentations as masks of ids 1..n; crowds are 255, void."
    HOMEPAGE = "https://cocodataset.org/#download"
    LICENSE = "Annotations: CC BY 4.0. Images: of Flickr, each under its own terms."
    CITATION = "Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014."
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Unpack train2017.zip, val2017.zip and
annotations_trainval2017.zip into manual_dir: train2017/*.jpg, val2017/*.jpg and
annotations/instances_{train,val}2017.json. One of the image folders suffices to build its split."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        root = find_root(manual_dir, ["coco", "COCO"], list(_FOLDERS.values()))
        return {
            split: _listing(root / name, root / "annotations" / f"instances_{name}.json")
            for split, name in _FOLDERS.items()
            if (root / name).is_dir()
        }


def _listing(folder: Path, path: Path) -> Listing:
    images, by_image = _read_annotations(path)
    on_disk = {path.name for path in visible_files(folder, IMAGE_KINDS)}
    listed = {image["file_name"] for image in images}
    faults = [
        f"image {folder / name} is in {path.name}, but not there" for name in listed - on_disk
    ]
    faults += [f"image {folder / name} is not in {path.name}" for name in on_disk - listed]
    wanted = [image for image in images if image["file_name"] in on_disk]
    items = []
    for image in sorted(wanted, key=lambda image: image["file_name"]):
        if instances := by_image.get(image["id"]):
            file = folder / image["file_name"]
            size = (image["height"], image["width"])
            make = functools.partial(make_record, file, size, tuple(instances))
            items.append(Item(file.name, make, (file, path)))
    skipped = {"images without instances": len(wanted) - len(items)}
    return Listing(tuple(items), tuple(sorted(faults)), {k: n for k, n in skipped.items() if n})


def _read_annotations(path: Path) -> tuple[list[dict], Mapping[int, list[dict]]]:
    """The images of an annotation file, and the instances of each image by its id."""
    try:
        content = json.loads(path.read_bytes())
        keys = ("id", "file_name", "height", "width")
        images = [{key: image[key] for key in keys} for image in content["images"]]
        by_image = defaultdict(list)
        for instance in content["annotations"]:
            by_image[instance["image_id"]].append(
                {key: instance[key] for key in ("segmentation", "iscrowd")}
            )
    except OSError as error:
        raise InputError(f"annotations {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"annotations {path} are no COCO instances: {error!r}") from None
    return images, by_image


def make_record(
    path: Path, expected: tuple[int, int], instances: Sequence[Mapping[str, Any]]
) -> Record:
    """Reads and checks an image, and paints its instances.

    Args:
      path: of the image.
      expected: its annotated (height, width).
      instances: COCO annotations: `segmentation` (polygons, RLE as counts, or compressed RLE) and
        `iscrowd`.

    Raises:
      InputError: if the image cannot be read or has another size, or a segmentation is bad.
      SkippedByDesign: if there are only crowds.
    """
    data, size = read_encoded(path, decode=True)
    if size != expected:
        raise InputError(
            f"image {path} is {size_text(size)}, but annotated as {size_text(expected)}"
        )
    labels, hidden = paint(instances, size, str(path))
    objects = len(objects_in(labels))
    if not objects:
        raise SkippedByDesign("images with nothing but crowds")
    features = {"name": path.name, "image": data, "mask": index_png(labels)}
    crowds = sum(bool(instance["iscrowd"]) for instance in instances)
    return Record(
        features,
        {"objects": objects, "crowds made void": crowds, "instances hidden by others": hidden},
    )


def paint(
    instances: Sequence[Mapping[str, Any]], size: tuple[int, int], name: str
) -> tuple[np.ndarray, int]:
    """Paints instances as one mask of ids 1..n, in the order of the annotations.

    Args:
      instances: as in `make_record`.
      size: (height, width) of the image.
      name: of the image, for messages.

    Returns:
      uint8 `[h, w]`, and the number of instances without a visible pixel.

    Raises:
      InputError: if a segmentation has another size, or there are more than 127 instances.
    """
    crowds: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for instance in instances:
        mask = _decoded(instance["segmentation"], size, name)
        (crowds if instance["iscrowd"] else masks).append(mask)
    if len(masks) > MAX_ID:
        raise InputError(f"image {name} has {len(masks)} instances: a mask holds {MAX_ID} at most")
    labels = np.zeros(size, np.uint8)
    for crowd in crowds:
        labels[crowd] = VOID
    areas = [int(mask.sum()) for mask in masks]
    for index in sorted(range(len(masks)), key=lambda index: -areas[index]):
        labels[masks[index]] = index + 1
    present = objects_in(labels)  # renumbered, so that ids have no gaps
    table = np.zeros(256, np.uint8)
    table[[*present, VOID]] = [*range(1, len(present) + 1), VOID]
    return table[labels], len(masks) - len(present)


def _decoded(segmentation: Any, size: tuple[int, int], name: str) -> np.ndarray:
    """A segmentation as bool [h, w]."""
    try:
        if isinstance(segmentation, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        elif isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(segmentation, *size)
        else:
            rle = segmentation
        mask = coco_mask.decode(rle).astype(bool)
    except Exception as error:  # pycocotools raises no narrower class
        raise InputError(f"image {name}: a segmentation cannot be decoded ({error!r})") from None
    if mask.shape != size:
        raise InputError(
            f"image {name} is {size_text(size)}, but a segmentation is of {size_text(mask.shape)}"
        )
    return mask
