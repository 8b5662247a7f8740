"""What all dataset builders share: their records are made in parallel, checked and sharded.

A builder lists the records its files make (`listings`). Shards survive an interrupted build. The
result is an ordinary TFDS dataset, for `tfds build`, `tfds.load`, `tfds.builder_from_directory`.

A mask in a record is a grey PNG of indices: 0 background, 1..n the objects, 255 void.
"""

import abc
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from data_pipeline.builders.items import Listing
from data_pipeline.builders.shards import ShardToWrite, drop_stale, plan
from data_pipeline.builders.summary import FILE_NAME, Outcome, as_json, as_text, faults_text
from data_pipeline.builders.writing import make_one, write_with_beam, write_with_threads
from qmra_jax.errors import InputError


class Builder(FileReaderBuilder):
    """Makes a dataset from files in `manual_dir`; see `PairBuilder` and `VideoBuilder`.

    A concrete builder lies in NAME_dataset_builder.py, which names it, sets the attributes below
    (and TFDS's VERSION, MANUAL_DOWNLOAD_INSTRUCTIONS, BUILDER_CONFIGS) and implements `listings`.

    Bad files stop a build, and no dataset is written. With the environment variable QMRA_SKIP_BAD=1
    they are left out and reported. QMRA_BUILD_WORKERS is the number of threads (default: one per
    core).

    TFDS's ShardBasedBuilder does not serve here: without Beam it makes one record after the other,
    and an interrupted build starts from nothing.
    """

    DESCRIPTION: ClassVar[str]
    LICENSE: ClassVar[str]
    HOMEPAGE: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""
    RECORDS: ClassVar[str]  # what a record is, in the plural, for messages
    FEATURES: ClassVar[dict]  # of a record, as `tfds.features.FeaturesDict` takes them
    READS_FILES: ClassVar[bool] = True  # whether a manual_dir is needed
    SHARD_BYTES: ClassVar[int] = 256 << 20  # of source files per shard, approximately
    # Nothing is downloaded. TFDS 4.9 would look for checksums in a package that may not exist.
    url_infos = None

    @abc.abstractmethod
    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        """The content of each split.

        Raises:
          InputError: if the layout of `manual_dir` is not the official one.
        """

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(self.FEATURES),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            license=self.LICENSE,
        )

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        config = download_config or tfds.download.DownloadConfig()
        if self.info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise InputError(f"file format {self.info.file_format}: expected tfrecord")
        manual_dir = _manual_dir(dl_manager) if self.READS_FILES else Path()
        listings = dict(self.listings(manual_dir))
        if not listings:
            raise InputError(
                f"manual_dir {manual_dir} has no split of {self.name}: expected"
                f" {' '.join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
            )
        if (most := config.max_examples_per_split) is not None:
            listings = {split: _first(listing, most) for split, listing in listings.items()}
        by_name = [fault for listing in listings.values() for fault in listing.faults]
        self._stop_at(by_name, "Only names were checked so far, not the files' content.")
        planned = self._plan(listings, config)
        self._write([shard for shards in planned.values() for shard in shards], config)

        summaries = {}
        for split, listing in listings.items():
            listed = Outcome(skipped=listing.skipped, faults=listing.faults)
            made = [shard.outcome() for shard in planned[split]]
            summaries[split] = Outcome.total([listed, *made])
        faults = [fault for summary in summaries.values() for fault in summary.faults]
        self._stop_at(faults, "All files were checked; finished shards are kept for the next try.")
        if empty := [split for split, summary in summaries.items() if not summary.records]:
            raise InputError(f"{self.info.full_name}: no {self.RECORDS} for {', '.join(empty)}")
        splits = [self._publish(split, shards) for split, shards in planned.items()]
        self.info.set_splits(tfds.core.SplitDict(splits))
        self.data_path.joinpath(FILE_NAME).write_text(as_json(self.info.full_name, summaries))
        self._staging().rmtree()
        print(as_text(f"{self.info.full_name}:", summaries, self.RECORDS))

    def _stop_at(self, faults: Sequence[str], stage: str) -> None:
        if faults and not _skip_bad():
            raise InputError(faults_text(self.info.full_name, faults, stage))

    def _plan(
        self, listings: Mapping[str, Listing], config: tfds.download.DownloadConfig
    ) -> dict[str, list[ShardToWrite]]:
        folder = self._staging()
        folder.mkdir(parents=True, exist_ok=True)
        planned = {
            split: plan(
                split,
                listing.items,
                folder=folder,
                maker=self.info.full_name,
                target=min(self.SHARD_BYTES, config.max_shard_size),
                count=config.num_shards or 0,
            )
            for split, listing in listings.items()
        }
        drop_stale(folder, (shard for shards in planned.values() for shard in shards))
        return planned

    def _write(self, shards: list[ShardToWrite], config: tfds.download.DownloadConfig) -> None:
        """Writes the shards that no earlier build finished; one with faults is tried again."""
        todo = [
            shard
            for shard in shards
            if not shard.finished() or (shard.outcome().faults and not _skip_bad())
        ]
        done = sum(len(s.items) for s in shards) - sum(len(s.items) for s in todo)
        if done:
            print(f"{len(shards) - len(todo)} of {len(shards)} shards exist from an earlier build")
        make = functools.partial(make_one, self.info.features)
        if config.beam_runner or config.beam_options:
            write_with_beam(todo, make, runner=config.beam_runner, options=config.beam_options)
        else:
            write_with_threads(todo, make, done=done, unit=self.RECORDS)

    def _publish(self, split: str, shards: list[ShardToWrite]) -> tfds.core.SplitInfo:
        """Moves a split's shards to TFDS's folder; shards without records are left out."""
        full = [(shard, count) for shard in shards if (count := shard.outcome().records)]
        size = sum(shard.path.stat().length for shard, _ in full)
        template = tfds.core.ShardedFileTemplate(
            data_dir=self.data_path,
            dataset_name=self.name,
            split=split,
            filetype_suffix=self.info.file_format.file_suffix,
        )
        for index, (shard, _) in enumerate(full):
            shard.move(template.sharded_filepath(shard_index=index, num_shards=len(full)))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[count for _, count in full],
            num_bytes=size,
            filename_template=template,
        )

    def _staging(self) -> epath.Path:
        """The hidden folder of finished shards beside the dataset: DATA_DIR/duts/.1.0.0.partial.

        TFDS's own folder for an unfinished dataset has a random name; this one survives.
        """
        parts = [self.builder_config.name] if self.builder_config else []
        name = "-".join([*parts, str(self.version)])
        return epath.Path(self.data_dir_root) / self.name / f".{name}.partial"


def _skip_bad() -> bool:
    return os.environ.get("QMRA_SKIP_BAD", "") not in ("", "0")


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> Path:
    try:
        folder = os.fspath(dl_manager.manual_dir)
    except AssertionError as error:  # TFDS, where the folder is absent or empty
        raise InputError(" ".join(str(error).split())) from None
    if "://" in folder:
        raise InputError(f"manual_dir {folder}: expected a local folder")
    return Path(folder)


def _first(listing: Listing, most: int) -> Listing:
    """The first items only; the rest counts as skipped."""
    skipped = dict(listing.skipped)
    if (rest := len(listing.items) - most) > 0:
        skipped["beyond --max_examples_per_split"] = rest
    return dataclasses.replace(listing, items=listing.items[:most], skipped=skipped)


_IMAGE = tfds.features.Image(shape=(None, None, 3))
_MASK = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
_TEXT = tfds.features.Text()


class PairBuilder(Builder):
    """Images and their masks.

    A record holds `name` (of the image file), `image` (the file's own bytes, JPEG or PNG) and
    `mask` (grey PNG of indices).
    """

    RECORDS = "images"
    FEATURES: ClassVar = {"name": _TEXT, "image": _IMAGE, "mask": _MASK}


class VideoBuilder(Builder):
    """Videos and the masks of some or all of their frames.

    A record holds `name`, `frames` (the files' own bytes), `frame_names` (stems), `masks` (grey
    PNGs of indices), `annotated` (of each mask the index into `frames`), and `objects`: of each the
    `id` in the masks, the `category` ("" if unknown), `first_frame` (the index into `frames` of its
    first mask) and `frames` (the number of masks that show it; a triplet needs three).
    """

    RECORDS = "videos"
    FEATURES: ClassVar = {
        "name": _TEXT,
        "frames": tfds.features.Sequence(_IMAGE),
        "frame_names": tfds.features.Sequence(_TEXT),
        "masks": tfds.features.Sequence(_MASK),
        "annotated": tfds.features.Sequence(np.int32),
        "objects": tfds.features.Sequence(
            {"id": np.int32, "category": _TEXT, "first_frame": np.int32, "frames": np.int32}
        ),
    }
