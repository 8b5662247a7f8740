"""MSRA10K: 10,000 images with a salient object each."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, PairBuilder
from data_pipeline.builders.pairs import find_root, pair_listing


class Builder(PairBuilder):
    """MSRA10K, one split, `train`; images and masks lie side by side in one folder."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "One salient object an image, with pixel-accurate binary masks."
    HOMEPAGE = "https://mmcheng.net/msra10k/"
    LICENSE = "None named: for research; the images are Microsoft Research Asia's MSRA set."
    CITATION = "Cheng et al.: Global Contrast Based Salient Region Detection. TPAMI 37(3), 2015."
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Unpack MSRA10K_Imgs_GT.zip into manual_dir:
MSRA10K_Imgs_GT/Imgs/*.jpg with the masks, *.png, beside them."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        unpacked = "MSRA10K_Imgs_GT"
        root = find_root(manual_dir, [unpacked, f"{unpacked}/{unpacked}"], ["Imgs"])
        return {"train": pair_listing(root / "Imgs", root / "Imgs", image_suffixes=(".jpg",))}
