"""SOC: 6,000 images in clutter, of which the half with salient objects is used."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, PairBuilder
from data_pipeline.builders.pairs import find_root, pair_listing

_FOLDERS = {"train": "TrainSet", "val": "ValSet", "test": "TestSet"}
_EMPTY = "images without a salient object"


class Builder(PairBuilder):
    """SOC, splits `train`, `val` and `test`.

    Half of its images show nothing salient by design: they have an empty mask or none, and are left
    out. So a lost mask goes unnoticed.
    """

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "Salient objects in clutter, with binary masks; images without one are left out."
    HOMEPAGE = "https://mmcheng.net/socbenchmark/"
    LICENSE = "None named: for research; the images are MS COCO's and others'."
    CITATION = (
        "Fan et al.: Salient Objects in Clutter: Bringing Salient Object Detection to the"
        " Foreground. ECCV 2018."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Unpack SOC6K_Release.zip into manual_dir:
SOC6K_Release/TrainSet/Imgs/*.jpg and SOC6K_Release/TrainSet/gt/*.png, ValSet and TestSet likewise.
Splits without a folder are not built, nor is `test` without its masks."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        root = find_root(manual_dir, ["SOC6K_Release", "SOC"], list(_FOLDERS.values()))
        return {
            split: pair_listing(root / name / "Imgs", root / name / "gt", empty=_EMPTY)
            for split, name in _FOLDERS.items()
            if (root / name).is_dir() and (split != "test" or (root / name / "gt").is_dir())
        }
