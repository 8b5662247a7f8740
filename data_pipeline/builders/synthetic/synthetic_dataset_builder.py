"""Procedural videos with exact masks, rendered by `data_pipeline.synthetic`; no download."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.builders.base import VideoBuilder
from data_pipeline.builders.items import Item, Listing, Record, index_png
from data_pipeline.synthetic import videos
from qmra_jax.masks import objects_in

_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)
_CODE = tuple(sorted(Path(videos.__file__).parent.glob("*.py")))


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """The number of videos of each split, and the height of their frames in pixels."""

    train: int = 50
    val: int = 10
    height: int = videos.DEFAULT_HEIGHT


class Builder(VideoBuilder):
    """Splits `train` and `val`: the first videos of the splits of `SyntheticVideos`."""

    VERSION = tfds.core.Version("3.0.0")
    BUILDER_CONFIGS = (
        Config(name="small", description="50 and 10 videos.", train=50, val=10),
        Config(name="medium", description="1000 and 20 videos.", train=1000, val=20),
        Config(name="large", description="10000 and 20 videos.", train=10_000, val=20),
    )
    DESCRIPTION = (
        "Textured, deforming shapes that move, hide one another and resemble one another over a"
        " moving background: 24 frames a video, every one with an exact mask."
    )
    LICENSE = "Apache-2.0, as the code that draws them."
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Nothing to download; manual_dir is ignored."
    READS_FILES: ClassVar[bool] = False

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        config = self.builder_config
        return {
            split: Listing(tuple(_item(split, config.height, k) for k in range(count)))
            for split, count in (("train", config.train), ("val", config.val))
        }


def _item(split: str, height: int, item: int) -> Item:
    return Item(f"{item:05d}", functools.partial(make_record, split, height, item), _CODE)


def make_record(split: str, height: int, item: int) -> Record:
    """Renders and encodes a video; arguments as `videos.SyntheticVideos`."""
    clip = videos.SyntheticVideos(split, height).clip(item)
    labels = [clip.labels(k) for k in range(clip.length)]
    images = [clip.image(k) for k in range(clip.length)]
    shown = Counter(label for mask in labels for label in objects_in(mask))
    objects = [
        {"id": label, "category": "", "first_frame": 0, "frames": shown[label]}
        for label in sorted(shown)
    ]
    features = {
        "name": f"{item:05d}",
        "frames": [_jpeg(image) for image in images],
        "frame_names": [f"{k:05d}" for k in range(clip.length)],
        "masks": [index_png(mask) for mask in labels],
        "annotated": list(range(clip.length)),
        "objects": objects,
    }
    counts = {"objects": len(objects), "frames": clip.length, "masks": clip.length}
    return Record(features, counts)


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)[1].tobytes()
