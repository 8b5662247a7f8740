"""DAVIS 2017, from the official archives."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, VideoBuilder
from data_pipeline.builders.davis_layout import official_listings
from data_pipeline.datasets.davis import Masks


class Builder(VideoBuilder):
    """Splits `train`, `val` and, where it exists, `test-dev`, which has first masks only."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "60 training, 30 validation and 30 test-dev videos of one or more objects."
    HOMEPAGE = "https://davischallenge.org/davis2017/code.html"
    LICENSE = "CC BY-NC 4.0"
    CITATION = (
        "Pont-Tuset et al.: The 2017 DAVIS Challenge on Video Object Segmentation."
        " arXiv:1704.00675."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack DAVIS-2017-trainval-480p.zip and, if wanted, DAVIS-2017-test-dev-480p.zip over it;"
        " manual_dir is the folder that holds JPEGImages, Annotations and ImageSets, or the one"
        " that holds DAVIS."
    )

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        splits: dict[str, Masks] = {"train": "every", "val": "every", "test-dev": "first"}
        return official_listings(manual_dir, "2017", splits, labels="ids")
