"""Your own videos, in the DAVIS layout."""

import re
from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, VideoBuilder
from data_pipeline.builders.davis_layout import listing, listings
from data_pipeline.datasets import davis
from qmra_jax.errors import InputError


class Builder(VideoBuilder):
    """A split for each list in ImageSets; without lists, all videos are the split `train`."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "Videos from a folder in the DAVIS layout, with masks of some or all frames."
    LICENSE = "The files' own."
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds JPEGImages/VIDEO/00000.jpg and Annotations/VIDEO/00000.png, with or"
        " without a level 480p above VIDEO; frames may lack masks. A mask holds ids 1..127 (255 is"
        " void), or 0 and 255 throughout the video. Splits are lists of names in"
        " ImageSets/SPLIT.txt or ImageSets/YEAR/SPLIT.txt; without them all is train."
    )

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        years = _lists(manual_dir)
        if not years:
            return {"train": listing(manual_dir, "", None, "some", "ids or binary")}
        return listings(manual_dir, years, dict.fromkeys(years, "some"), "ids or binary")


def _lists(root: Path) -> dict[str, str]:
    """Each split's folder under ImageSets."""
    years: dict[str, str] = {}
    for name in davis.available_splits(root):
        year, _, split = name.rpartition("/")
        if not re.fullmatch(r"\w[\w-]*", split) or split == "all":
            raise InputError(
                f"list {name} in {root / 'ImageSets'}: a split's name consists of letters, digits,"
                " _ and -, and is not 'all': rename the file"
            )
        names = davis.read_split(root, year, split)
        if split in years and davis.read_split(root, years[split], split) != names:
            raise InputError(
                f"{root / 'ImageSets'} holds two different lists {split}, in"
                f" {years[split] or 'itself'} and {year}: remove one (for DAVIS itself there are"
                " the builders davis2016 and davis2017)"
            )
        years.setdefault(split, year)
    return years
