"""The entries of `data.static` and `data.videos`, each of which names a dataset.

    FOLDER[:SPLIT[:YEAR]][@REPEAT]      davis2016:train   davis2017:train:2017   duts@2
    synthetic[:SPLIT][@REPEAT]          procedural videos; nothing is read

FOLDER is relative to `data.root`, absolute (`/`, `~`) or in a bucket (`gs://`). Its content decides
how it is read: a dataset from our builders (FOLDER/1.0.0, FOLDER/CONFIG/1.0.0 or FOLDER itself),
whose SPLIT is "train" by default; else raw files, see `datasets.folders`.
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

from etils import epath

from data_pipeline.datasets import folders, records, youtube_vos
from data_pipeline.datasets.built import RecordPairs, RecordVideos
from data_pipeline.synthetic.videos import SyntheticVideos
from data_pipeline.triplets.sources import Clips, Pairs
from qmra_jax.errors import InputError
from qmra_jax.files import is_remote

MAX_REPEAT = 1000
_FORM = re.compile(
    r"(?P<folder>(?:\w+://)?[^:]+?)(?::(?P<split>[^:@]+)(?::(?P<year>[^:@]+))?)?(?:@(?P<repeat>[^@/]*))?"
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One dataset of the config.

    Attributes:
      text: as in the config.
      setting: that contains it: "data.static" or "data.videos".
      folder: as named; also a prefix of its examples' names.
      split: None if not named.
      year: of DAVIS's lists; None if not named.
      repeat: number of times each item comes in an epoch; above 0, may be a fraction.
    """

    text: str
    setting: str
    folder: str
    split: str | None
    year: str | None
    repeat: float

    @classmethod
    def parse(cls, text: str, setting: str) -> "Entry":
        """Parses an entry.

        Raises:
          InputError: if it has another form.
        """
        match = _FORM.fullmatch(text) if isinstance(text, str) else None
        if not match:
            raise InputError(
                f"{setting} entry {text!r}: expected FOLDER, FOLDER:SPLIT or FOLDER:SPLIT:YEAR,"
                " such as davis2017:train:2017, and optionally @REPEAT"
            )
        try:
            repeat = 1.0 if match["repeat"] is None else float(match["repeat"])
        except ValueError:
            repeat = math.nan
        entry = cls(text, setting, match["folder"], match["split"], match["year"], repeat)
        if not 0 < repeat <= MAX_REPEAT:
            raise entry.error(
                f"expected a number above 0, at most {MAX_REPEAT}, after @: {entry.folder}@5"
            )
        return entry

    def error(self, message: str) -> InputError:
        """An error about this entry."""
        return InputError(f"{self.setting} entry {self.text!r}: {message}")


def parse_entries(texts: object, setting: str) -> list[Entry]:
    """Parses the entries of a setting.

    Raises:
      InputError: if one has another form, or two name the same dataset.
    """
    if isinstance(texts, str) or not isinstance(texts, tuple | list):
        raise InputError(f"{setting}={texts!r}: expected a tuple of texts, such as ('duts',)")
    entries = [Entry.parse(text, setting) for text in texts]
    named = set()
    for entry in entries:
        if (dataset := (entry.folder, entry.split, entry.year)) in named:
            raise entry.error(f"named twice: name it once, for a greater share as {entry.folder}@2")
        named.add(dataset)
    return entries


def open_pairs(entry: Entry, root: str) -> Pairs:
    """The images and masks of an entry of `data.static`; `root` is `data.root`.

    Raises:
      InputError: if there are none, or they cannot be used.
    """
    if entry.folder in PAIRS:
        return PAIRS[entry.folder](entry)
    if entry.folder in CLIPS:
        raise entry.error(f"{entry.folder} are videos: name it in data.videos")
    folder = resolve(entry, root)
    if (built := _find_built(entry, folder, ("images", "masks", "JPEGImages"))) is not None:
        return RecordPairs(entry.folder, _open_built(entry, built, records.STATIC))
    if (folder / "JPEGImages").is_dir():
        raise entry.error(f"{folder} holds videos: name it in data.videos")
    if entry.split is not None:
        raise entry.error(f"{folder} holds raw files, which have no splits: leave out the split")
    return folders.open_pairs(Path(folder), entry.folder)


def open_clips(entry: Entry, root: str) -> Clips:
    """The videos of an entry of `data.videos`; `root` is `data.root`.

    Raises:
      InputError: if there are none, or they cannot be used.
    """
    if entry.folder in CLIPS:
        return CLIPS[entry.folder](entry)
    if entry.folder in PAIRS:
        raise entry.error(f"{entry.folder} are still images: name it in data.static")
    folder = resolve(entry, root)
    raw = ("images", "masks", "JPEGImages", *youtube_vos.SPLITS)
    if (built := _find_built(entry, folder, raw)) is not None:
        return RecordVideos(entry.folder, _open_built(entry, built, records.VIDEO))
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        raise entry.error(f"{folder} holds still images: name it in data.static")
    return folders.open_videos(Path(folder), entry.folder, entry.split, entry.year)


def open_synthetic(entry: Entry) -> Clips:
    """Procedural videos, of the entry's split.

    Raises:
      InputError: if the entry has a year, or there is no such split.
    """
    if entry.year is not None:
        raise entry.error("expected synthetic or synthetic:SPLIT")
    return SyntheticVideos(entry.split or "train")


# Datasets that are no folders, by name. A plugin adds its own.
PAIRS: dict[str, Callable[[Entry], Pairs]] = {}
CLIPS: dict[str, Callable[[Entry], Clips]] = {"synthetic": open_synthetic}


def resolve(entry: Entry, root: str) -> epath.Path:
    """The folder of an entry: absolute, or relative to `root` (`data.root`) or else to $QMRA_DATA.

    Raises:
      InputError: if a relative folder has no root, or does not exist.
    """
    named, base = epath.Path(entry.folder).expanduser(), root or os.environ.get("QMRA_DATA", "")
    if not base and not named.is_absolute():
        raise InputError(
            f"source {entry.folder!r} is relative, but data.root is empty and QMRA_DATA is not set:"
            " set one of them to the folder that contains it"
        )
    folder = epath.Path(base).expanduser() / named
    if not is_remote(folder) and not folder.is_dir():
        raise InputError(
            f"source {entry.folder!r}: no folder {folder}; see data.root and QMRA_DATA"
        )
    return folder


def _find_built(entry: Entry, folder: epath.Path, raw: tuple[str, ...]) -> epath.Path | None:
    """The version of a built dataset; None if the folder holds raw files, known by `raw`."""
    if (built := records.find_version(folder)) is not None:
        return built
    if not is_remote(folder) and any((folder / name).is_dir() for name in raw):
        return None
    if len(configs := records.find_configs(folder)) == 1:
        return records.find_version(folder / configs[0])
    if configs:
        raise entry.error(
            f"{folder} holds the datasets {', '.join(configs)}: name one of them, such as"
            f" {entry.folder}/{configs[0]}"
        )
    if is_remote(folder):
        raise entry.error(
            f"{folder} holds no built dataset (dataset_info.json, or a version such as 1.0.0), and"
            " raw files are read from local disks only: build the dataset and copy it there"
        )
    return None


def _open_built(entry: Entry, folder: epath.Path, needed: frozenset[str]) -> records.Records:
    if entry.year is not None:
        raise entry.error(f"{folder} is a built dataset, whose splits have no year: leave it out")
    return records.open_records(folder, entry.split or "train", needed)
