"""What every dataset builder shares: what it says of its files, and how they become TFRecords.

A builder says which records its files make (`listings`); here they are made in parallel, checked,
written in shards that an interrupted build keeps, and summed up. TFDS does the rest, so that
`tfds build`, `tfds.load` and `tfds.builder_from_directory` know the result.

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
    """A dataset made from files in `manual_dir`; see `PairBuilder` and `VideoBuilder`.

    A concrete builder names itself by its module, NAME_dataset_builder.py, sets the attributes
    below (TFDS's VERSION, MANUAL_DOWNLOAD_INSTRUCTIONS and BUILDER_CONFIGS among them), and says in
    `listings` what it is made of.

    Bad files stop a build, before it leaves a dataset behind, with the first of them and their
    number. With the environment variable QMRA_SKIP_BAD=1 they are left out and reported.
    QMRA_BUILD_WORKERS is the number of threads that make records (default: one a core).

    TFDS's ShardBasedBuilder is no base for this: it makes one record after the other without Beam,
    and an interrupted build starts from nothing.
    """

    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]
    RECORDS: ClassVar[str]  # what a record is, in the plural, for messages
    READS_FILES: ClassVar[bool] = True  # else there is no need for a manual_dir
    SHARD_BYTES: ClassVar[int] = 256 << 20  # of source files, aimed at
    # Nothing is downloaded. TFDS 4.9 would look for checksums by a package that it may not have.
    url_infos = None

    @abc.abstractmethod
    def listings(self, manual_dir: Path) -> Mapping[str, Listing]:
        """What each split is made of.

        Args:
          manual_dir: the folder that the user gave.

        Raises:
          InputError: if the layout is not the official one.
        """

    @abc.abstractmethod
    def _features(self) -> tfds.features.FeaturesDict:
        """Of a record."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=self._features(),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            license=self.LICENSE,
        )

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        config = download_config or tfds.download.DownloadConfig()
        if self.info.file_format is not tfds.core.FileFormat.TFRECORD:
            raise InputError(f"file format {self.info.file_format}: training reads tfrecord alone")
        manual_dir = _manual_dir(dl_manager)
        listings = dict(self.listings(manual_dir))
        if not listings:
            raise InputError(
                f"manual_dir {manual_dir} has no split of {self.name}: expected"
                f" {' '.join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
            )
        if (most := config.max_examples_per_split) is not None:
            listings = {split: _first(listing, most) for split, listing in listings.items()}
        named = [fault for listing in listings.values() for fault in listing.faults]
        self._check(named, "Found by names alone: the contents have not been checked yet.")
        self._drop_incomplete()
        planned = self._plan(listings, config)
        self._write([shard for shards in planned.values() for shard in shards], config)

        summaries = {}
        for split, listing in listings.items():
            by_name = Outcome(skipped=listing.skipped, faults=listing.faults)
            made = [shard.outcome() for shard in planned[split]]
            summaries[split] = Outcome.total([by_name, *made])
        faults = [fault for summary in summaries.values() for fault in summary.faults]
        self._check(faults, "All files are checked, and what was made is kept for the next try.")
        if empty := [split for split, summary in summaries.items() if not summary.records]:
            raise InputError(f"{self.info.full_name}: no {self.RECORDS} for {', '.join(empty)}")
        splits = [self._moved(split, shards) for split, shards in planned.items()]
        self.info.set_splits(tfds.core.SplitDict(splits))
        self.data_path.joinpath(FILE_NAME).write_text(as_json(self.info.full_name, summaries))
        self._staging().rmtree()
        print(as_text(f"{self.info.full_name}:", summaries, self.RECORDS))

    def _check(self, faults: Sequence[str], stage: str) -> None:
        """Stops the build at faults, unless they are to be left out, and says how far it came."""
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
        """Writes those shards that no earlier build has finished; one with faults is tried anew."""
        todo = [
            shard
            for shard in shards
            if not shard.finished() or (shard.outcome().faults and not _skip_bad())
        ]
        done = sum(len(s.items) for s in shards) - sum(len(s.items) for s in todo)
        if done:
            print(f"{len(shards) - len(todo)} of {len(shards)} shards are there from before")
        make = functools.partial(make_one, self.info.features)
        if config.beam_runner or config.beam_options:
            write_with_beam(todo, make, runner=config.beam_runner, options=config.beam_options)
        else:
            write_with_threads(todo, make, done=done, unit=self.RECORDS)

    def _moved(self, split: str, shards: list[ShardToWrite]) -> tfds.core.SplitInfo:
        """Moves a split's shards to TFDS's folder; those whose items were all bad are left out."""
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

    def _drop_incomplete(self) -> None:
        """Removes the folders in which TFDS was building this version when it was killed.

        Finished shards are in another folder, `_staging`; they come to TFDS's last of all.
        """
        ending = f"_{self.version}"
        for path in self.data_path.parent.iterdir():
            ours = path.name.startswith("incomplete.") and path.name.endswith(ending)
            if ours and path.name != self.data_path.name:
                print(f"{path}, of a build that was killed, is removed")
                path.rmtree()

    def _staging(self) -> epath.Path:
        """Where finished shards wait: beside the dataset, hidden, DATA_DIR/duts/.1.0.0.partial.

        While TFDS builds, its own folder for the dataset has a random name; this one lasts.
        """
        parts = [self.builder_config.name] if self.builder_config else []
        name = "-".join([*parts, str(self.version)])
        return epath.Path(self.data_dir_root) / self.name / f".{name}.partial"


def _skip_bad() -> bool:
    return os.environ.get("QMRA_SKIP_BAD", "") not in ("", "0")


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> Path:
    try:
        folder = os.fspath(dl_manager.manual_dir)
    except AssertionError as error:  # TFDS's way to say that it is absent or empty
        raise InputError(" ".join(str(error).split())) from None
    if "://" in folder:
        raise InputError(f"manual_dir {folder}: expected a folder of this machine")
    return Path(folder)


def _first(listing: Listing, most: int) -> Listing:
    """The first items alone, which is told: for a trial build."""
    left_out = max(0, len(listing.items) - most)
    told = {"beyond --max_examples_per_split": left_out} if left_out else {}
    return dataclasses.replace(
        listing, items=listing.items[:most], skipped={**listing.skipped, **told}
    )


class PairBuilder(Builder):
    """Images and their masks.

    A record: `name` (of the image, within the dataset), `image` (the file's own bytes, JPEG or
    PNG), `mask` (grey PNG of indices).
    """

    RECORDS = "images"

    def _features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict(
            {
                "name": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3)),
                "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            }
        )


class VideoBuilder(Builder):
    """Videos and the masks of some or all of their frames.

    A record: `name`, `frames` (the files' own bytes), `frame_names` (stems), `masks` (grey PNGs of
    indices), `annotated` (for each mask its index into `frames`), and `objects`: the `id` of each
    in the masks, its `category` ("" if unknown), `first_frame`, the index into `frames` where it
    first has a mask, and `frames`, how many masks show it: a triplet needs three.
    """

    RECORDS = "videos"

    def _features(self) -> tfds.features.FeaturesDict:
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        return tfds.features.FeaturesDict(
            {
                "name": tfds.features.Text(),
                "frames": tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3))),
                "frame_names": tfds.features.Sequence(tfds.features.Text()),
                "masks": tfds.features.Sequence(mask),
                "annotated": tfds.features.Sequence(np.int32),
                "objects": tfds.features.Sequence(
                    {
                        "id": np.int32,
                        "category": tfds.features.Text(),
                        "first_frame": np.int32,
                        "frames": np.int32,
                    }
                ),
            }
        )
