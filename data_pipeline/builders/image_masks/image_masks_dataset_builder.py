"""Your own images and masks, binary or instance ids."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, PairBuilder
from data_pipeline.builders.pairs import pair_listing
from data_pipeline.datasets.davis import folders_in
from qmra_jax.errors import InputError


class Builder(PairBuilder):
    """The splits are the sub-folders of `manual_dir`, or else `train`.

    Give each folder a `data_dir` of its own: every one becomes image_masks/1.0.0.
    """

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = "A folder of images and their masks: instance ids, or binary."
    LICENSE = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put images (JPEG or PNG) into manual_dir/images and masks of
the same names (PNG) into manual_dir/masks; or, for several splits, into manual_dir/SPLIT/images and
manual_dir/SPLIT/masks. A mask holds ids 1..127, with 255 as void, or is binary: 0/1 or 0/255."""

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        if (manual_dir / "images").is_dir() or (manual_dir / "masks").is_dir():
            roots = {"train": manual_dir}
        else:
            names = [n for n in folders_in(manual_dir) if (manual_dir / n / "images").is_dir()]
            roots = {name: manual_dir / name for name in names}
        if not roots:
            found = ", ".join(folders_in(manual_dir)) or "no folders"
            raise InputError(
                f"manual_dir {manual_dir}: expected images and masks, or SPLIT/images and"
                f" SPLIT/masks, in it; found {found}"
            )
        return {
            split: pair_listing(root / "images", root / "masks", labels="ids or binary")
            for split, root in roots.items()
        }
