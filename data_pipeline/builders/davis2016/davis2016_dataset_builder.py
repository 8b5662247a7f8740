"""DAVIS 2016, from the official archive or from DAVIS 2017's."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, VideoBuilder
from data_pipeline.builders.davis_layout import official_listings
from data_pipeline.datasets.davis import Masks


class Builder(VideoBuilder):
    """Splits `train` and `val`; all objects of a video are one, with label 1."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "30 training and 20 validation videos, one object each, every frame with a mask."
    HOMEPAGE = "https://davischallenge.org/davis2016/code.html"
    LICENSE = "CC BY-NC 4.0"
    CITATION = (
        "Perazzi et al.: A Benchmark Dataset and Evaluation Methodology for Video Object"
        " Segmentation. CVPR 2016."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack DAVIS-data.zip (2016) or DAVIS-2017-trainval-480p.zip; manual_dir is the folder"
        " that holds JPEGImages, Annotations and ImageSets, or the one that holds DAVIS."
    )

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        splits: dict[str, Masks] = {"train": "every", "val": "every"}
        return official_listings(manual_dir, "2016", splits, labels="merged")
