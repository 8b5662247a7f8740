"""DUTS: 10,553 training and 5,019 test images, each with its salient object."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, PairBuilder
from data_pipeline.builders.pairs import find_root, pair_listing

_FOLDERS = {"train": "DUTS-TR", "test": "DUTS-TE"}


class Builder(PairBuilder):
    """DUTS, splits `train` (DUTS-TR) and `test` (DUTS-TE)."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "Salient object detection: images of ImageNet DET and SUN with binary masks."
    HOMEPAGE = "http://saliencydetection.net/duts/"
    LICENSE = "None named. The images are ImageNet's and SUN's: non-commercial research."
    CITATION = (
        "Wang et al.: Learning to Detect Salient Objects with Image-level Supervision. CVPR 2017."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Unpack DUTS-TR.zip and DUTS-TE.zip into manual_dir:
DUTS-TR/DUTS-TR-Image/*.jpg, DUTS-TR/DUTS-TR-Mask/*.png, DUTS-TE likewise.
One of the two suffices to build its split."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        root = find_root(manual_dir, ["DUTS"], list(_FOLDERS.values()))
        return {
            split: pair_listing(root / name / f"{name}-Image", root / name / f"{name}-Mask")
            for split, name in _FOLDERS.items()
            if (root / name).is_dir()
        }
