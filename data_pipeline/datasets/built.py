"""Datasets written by our builders, as pairs and videos to draw triplets from.

A record holds the encoded files of an image and its mask, or of a whole video, of which a triplet
decodes three frames only. Masks are grey PNGs of indices: see `data_pipeline.builders.base`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipeline.datasets.records import Records
from qmra_jax.errors import InputError
from qmra_jax.images import decode_image
from qmra_jax.masks import VOID, decode_labels


@dataclasses.dataclass(frozen=True)
class RecordPairs:
    """Image and mask pairs of a built dataset; see `data_pipeline.triplets.sources.Pairs`.

    Attributes:
      name: of the dataset, a prefix of the pairs' names.
      records: with the features `STATIC`.
    """

    name: str
    records: Records

    def __len__(self) -> int:
        return len(self.records)

    def pair(self, item: int) -> tuple[str, np.ndarray, np.ndarray]:
        record = self.records[item]
        name = f"{self.name}/{record['name'][0].decode()}"
        image = decode_image(record["image"][0], name)
        labels = decode_labels(record["mask"][0], name)
        return name, image, np.where(labels == VOID, 0, labels)


@dataclasses.dataclass(frozen=True)
class RecordVideos:
    """Videos of a built dataset; see `data_pipeline.triplets.sources.Clips`.

    Attributes:
      name: of the dataset, a prefix of the videos' names.
      records: with the features `VIDEO`.
    """

    name: str
    records: Records

    def __len__(self) -> int:
        return len(self.records)

    def clip(self, item: int) -> "RecordClip":
        """A video, read but not decoded; InputError if the record is inconsistent."""
        record = self.records[item]
        name = f"{self.name}/{record['name'][0].decode()}"
        frames, masks, annotated = record["frames"], record["masks"], tuple(record["annotated"])
        if len(annotated) != len(masks) or not all(0 <= k < len(frames) for k in annotated):
            raise InputError(
                f"video {name}: {len(masks)} masks, {len(annotated)} annotated frames and"
                f" {len(frames)} frames contradict each other: build the dataset again"
            )
        return RecordClip(name, frames, masks, annotated)


@dataclasses.dataclass(frozen=True)
class RecordClip:
    """A video of a record; see `data_pipeline.triplets.sources.Clip`.

    Attributes:
      name: with its dataset's, "davis2017/bear".
      frames: encoded.
      masks: encoded.
      annotated: index into `frames` of each mask.
    """

    name: str
    frames: Sequence[bytes]
    masks: Sequence[bytes]
    annotated: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.annotated)

    def image(self, k: int) -> np.ndarray:
        return decode_image(self.frames[self.annotated[k]], f"{self.name}/frame {k}")

    def labels(self, k: int) -> np.ndarray:
        return decode_labels(self.masks[k], f"{self.name}/mask {k}")
