"""What `data.static` and `data.videos` name: a dataset an entry, one line of text each.

    FOLDER[:SPLIT[:YEAR]][@REPEAT]      davis2016:train   davis2017:train:2017   duts@2
    synthetic[:SPLIT][@REPEAT]          made-up videos; nothing is read

FOLDER lies below `data.root`, or is absolute (`/`, `~`), or in a bucket (`gs://`). What lies in it
says how it is read: a dataset that our builders wrote (FOLDER/1.0.0, FOLDER/CONFIG/1.0.0 or just
FOLDER), of which SPLIT is "train" unless named; else raw files, as `datasets.folders` tells.
"""

import dataclasses
import math
import os
import re
from pathlib import Path

from etils import epath

from data_pipeline.datasets import folders, records, youtube_vos
from data_pipeline.datasets.built import RecordPairs, RecordVideos
from data_pipeline.triplets.sources import Clips, Pairs
from qmra_jax.errors import InputError
from qmra_jax.files import is_remote

SYNTHETIC = "synthetic"
MAX_REPEAT = 1000
_FORM = re.compile(
    r"(?P<folder>(?:\w+://)?[^:]+?)(?::(?P<split>[^:@]+)(?::(?P<year>[^:@]+))?)?(?:@(?P<repeat>[^@/]*))?"
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One dataset of the config.

    Attributes:
      text: as the config has it.
      setting: where it stands, such as "data.static" or "data.videos".
      folder: as named; also what its examples' ids begin with.
      split: None if not named.
      year: of DAVIS's lists; None if not named.
      repeat: how often each item comes in an epoch; above 0, and may be a fraction.
    """

    text: str
    setting: str
    folder: str
    split: str | None
    year: str | None
    repeat: float

    @classmethod
    def parse(cls, text: str, setting: str) -> "Entry":
        """Reads an entry.

        Raises:
          InputError: if it has another form.
        """
        match = _FORM.fullmatch(text) if isinstance(text, str) else None
        if not match:
            raise InputError(
                f"{setting} entry {text!r}: expected FOLDER, FOLDER:SPLIT or FOLDER:SPLIT:YEAR,"
                " such as davis2017:train:2017, and @REPEAT after it where it is to come up more"
                " often"
            )
        entry = cls(text, setting, match["folder"], match["split"], match["year"], 1.0)
        if match["repeat"] is None:
            return entry
        try:
            repeat = float(match["repeat"])
        except ValueError:
            repeat = math.nan
        if not 0 < repeat <= MAX_REPEAT:
            raise entry.error(
                f"expected a number above 0 after @, {MAX_REPEAT} at most, such as {entry.folder}@5"
            )
        return dataclasses.replace(entry, repeat=repeat)

    def error(self, message: str) -> InputError:
        """An error about this entry."""
        return InputError(f"{self.setting} entry {self.text!r}: {message}")


def parse_entries(texts: object, setting: str) -> list[Entry]:
    """Reads a setting's entries.

    Raises:
      InputError: if one has another form, or stands there twice.
    """
    if isinstance(texts, str) or not isinstance(texts, tuple | list):
        raise InputError(f"{setting}={texts!r}: expected a tuple of texts, such as ('duts',)")
    entries = [Entry.parse(text, setting) for text in texts]
    for i, entry in enumerate(entries):
        named = [(e.folder, e.split, e.year) for e in entries[:i]]
        if (entry.folder, entry.split, entry.year) in named:
            raise entry.error(
                f"it is there twice: for a greater share name it once, as {entry.folder}@2"
            )
    return entries


def open_pairs(entry: Entry, root: str) -> Pairs:
    """The images and masks that an entry names.

    Args:
      entry: of `data.static`.
      root: `data.root`; if empty, the environment variable QMRA_DATA.

    Raises:
      InputError: if there are none, or they cannot be used.
    """
    if entry.folder == SYNTHETIC:
        raise entry.error(f"{SYNTHETIC} are videos: name it in data.videos")
    folder = resolve(entry, root)
    if (built := _find_built(entry, folder, ("images", "masks", "JPEGImages"))) is not None:
        return RecordPairs(entry.folder, _open_built(entry, built, records.STATIC))
    if (folder / "JPEGImages").is_dir():
        raise entry.error(f"{folder} holds videos: name it in data.videos")
    if entry.split is not None:
        raise entry.error(f"{folder} holds raw files, which have no splits: leave out the split")
    return folders.open_pairs(Path(folder), entry.folder)


def open_clips(entry: Entry, root: str) -> Clips:
    """The videos that an entry names.

    Args:
      entry: of `data.videos`.
      root: `data.root`; if empty, the environment variable QMRA_DATA.

    Raises:
      InputError: if there are none, or they cannot be used.
    """
    if entry.folder == SYNTHETIC:
        if entry.year is not None:
            raise entry.error(f"expected {SYNTHETIC} or {SYNTHETIC}:SPLIT")
        from data_pipeline.synthetic.videos import SyntheticVideos

        return SyntheticVideos(entry.split or "train")
    folder = resolve(entry, root)
    raw = ("images", "masks", "JPEGImages", *youtube_vos.SPLITS)
    if (built := _find_built(entry, folder, raw)) is not None:
        return RecordVideos(entry.folder, _open_built(entry, built, records.VIDEO))
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        raise entry.error(f"{folder} holds still images: name it in data.static")
    return folders.open_videos(Path(folder), entry.folder, entry.split, entry.year)


def resolve(entry: Entry, root: str) -> epath.Path:
    """The folder of an entry: as it is if absolute, else in `data.root`, else in $QMRA_DATA.

    Args:
      entry: which it is.
      root: `data.root`.

    Raises:
      InputError: if nothing says where it lies, or it is not there.
    """
    named, base = epath.Path(entry.folder).expanduser(), root or os.environ.get("QMRA_DATA", "")
    if not base and not named.is_absolute():
        raise InputError(
            f"source {entry.folder!r} is relative, but data.root is empty and QMRA_DATA is not set:"
            " set one of them to the folder that holds it"
        )
    folder = epath.Path(base).expanduser() / named
    if not is_remote(folder) and not folder.is_dir():
        raise InputError(
            f"source {entry.folder!r}: no folder {folder}; see data.root and QMRA_DATA"
        )
    return folder


def _find_built(entry: Entry, folder: epath.Path, raw: tuple[str, ...]) -> epath.Path | None:
    """The version of a dataset that our builders wrote; None if the folder holds raw files."""
    if (built := records.find_version(folder)) is not None:
        return built
    if not is_remote(folder) and any((folder / name).is_dir() for name in raw):
        return None
    if len(configs := records.find_configs(folder)) == 1:
        return records.find_version(folder / configs[0])
    if configs:
        raise entry.error(
            f"{folder} holds the datasets {', '.join(configs)}: expected one to be named, such as"
            f" {entry.folder}/{configs[0]}"
        )
    if is_remote(folder):
        raise entry.error(
            f"{folder} holds no built dataset (dataset_info.json, or a version such as 1.0.0): raw"
            " files are read from this machine's disks alone; build the dataset and copy it there"
        )
    return None


def _open_built(entry: Entry, folder: epath.Path, needed: frozenset[str]) -> records.Records:
    if entry.year is not None:
        raise entry.error(f"{folder} is a built dataset, whose splits have no year: leave it out")
    return records.open_records(folder, entry.split or "train", needed)
