"""YouTube-VOS 2018 and 2019, from the official archives."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipeline.builders.base import Listing, VideoBuilder
from data_pipeline.builders.videos import VideoFiles, video_listing
from data_pipeline.datasets import youtube_vos
from data_pipeline.datasets.davis import folders_in
from qmra_jax.errors import InputError

_VALID = {"2018": 474, "2019": 507}  # videos; nothing else tells the editions apart


class Builder(VideoBuilder):
    """Splits `train`, `valid` and `valid_all_frames`: those whose folders exist."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="2018", description="3471 videos in train, 474 in valid."),
        tfds.core.BuilderConfig(name="2019", description="3471 videos in train, 507 in valid."),
    )
    DESCRIPTION = (
        "Videos of 3 to 6 seconds with masks of every fifth frame and categories of the objects,"
        " which may appear mid-video; in valid, masks only where an object first appears."
    )
    HOMEPAGE = "https://youtube-vos.org/"
    LICENSE = "Annotations: CC BY 4.0; videos: their owners', for research."
    CITATION = (
        "Xu et al.: YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark."
        " arXiv:1809.03327."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Unpack train.zip, valid.zip and valid_all_frames.zip (or some of them; the last needs"
        " valid.zip too) of one edition, 2018 or 2019, into one folder, which is the manual_dir; or"
        " into its sub-folder of that name, 2018 or 2019. Without these sub-folders, `tfds build`"
        " needs --config=2019 (or 2018): else it takes the same files for both."
    )

    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        root = self._edition(manual_dir)
        splits = youtube_vos.splits_in(root)
        if not splits:
            raise InputError(
                f"{root}: expected YouTube-VOS's folders train, valid, valid_all_frames, or some of"
                " them, each with JPEGImages; found none"
            )
        return {split: _listing(youtube_vos.find_split(root, split)) for split in splits}

    def _edition(self, manual_dir: Path) -> Path:
        """The folder of this edition; without sub-folders, `valid` tells the editions apart."""
        edition = self.builder_config.name
        names = [config.name for config in self.BUILDER_CONFIGS]
        there = [name for name in names if (manual_dir / name).is_dir()]
        if there and edition not in there:
            raise InputError(
                f"{manual_dir} holds {', '.join(there)} and not {edition}: build"
                f" youtube_vos/{there[0]}, or unpack {edition} there too"
            )
        if there:
            return manual_dir / edition
        valid = manual_dir / "valid" / "JPEGImages"
        count = len(folders_in(valid)) if valid.is_dir() else 0
        for other in set(names) - {edition}:
            if count == _VALID[other]:
                raise InputError(
                    f"{manual_dir} is the edition {other} and not {edition}, as its valid has"
                    f" {count} videos: build youtube_vos/{other} (tfds build: --config={other})"
                )
        return manual_dir


def _listing(split: youtube_vos.SplitVideos) -> Listing:
    videos = [
        VideoFiles(
            video.name,
            video.frames,
            video.masks,
            video.annotated,
            categories={o.id: o.category for o in video.objects},
            meta_file=split.meta,
        )
        for video in split.videos
    ]
    return video_listing(videos, split.faults)
