"""ECSSD: 1,000 images whose salient object stands before structured background."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, PairBuilder
from data_pipeline.builders.pairs import find_root, pair_listing


class Builder(PairBuilder):
    """ECSSD, one split, `train`."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "Salient objects in semantically meaningful, complex scenes; binary masks."
    HOMEPAGE = "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"
    LICENSE = "None named: for research."
    CITATION = (
        "Shi et al.: Hierarchical Image Saliency Detection on Extended CSSD. TPAMI 38(4), 2016."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Unpack images.zip and ground_truth_mask.zip into manual_dir:
images/*.jpg and ground_truth_mask/*.png, in manual_dir itself or in ECSSD below it."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        root = find_root(manual_dir, ["ECSSD", "ecssd"], ["ground_truth_mask"])
        return {"train": pair_listing(root / "images", root / "ground_truth_mask")}
