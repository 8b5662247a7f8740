"""HKU-IS: 4,447 images with several or off-centre salient objects."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, PairBuilder
from data_pipeline.builders.pairs import find_root, pair_listing


class Builder(PairBuilder):
    """HKU-IS, one split, `train`, of all images; its .mat lists are not read."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "Salient objects, several or off the centre, with binary masks."
    HOMEPAGE = "https://i.cs.hku.hk/~gbli/deep_saliency.html"
    LICENSE = "None named: free for academic use, the authors say."
    CITATION = "Li and Yu: Visual Saliency Based on Multiscale Deep Features. CVPR 2015."
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Unpack HKU-IS.zip (or .rar) into manual_dir: imgs/*.png
and gt/*.png, in manual_dir itself or in HKU-IS below it."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        root = find_root(manual_dir, ["HKU-IS"], ["imgs"])
        return {"train": pair_listing(root / "imgs", root / "gt")}
