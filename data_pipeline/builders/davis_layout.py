"""Listings of datasets in the DAVIS layout: a split for each list of `ImageSets`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from data_pipeline.builders.items import Listing
from data_pipeline.builders.videos import Labels, VideoFiles, video_listing
from data_pipeline.datasets import davis


def official_listings(
    manual_dir: Path, year: str, splits: Mapping[str, davis.Masks], labels: Labels
) -> dict[str, Listing]:
    """The splits of DAVIS itself whose list exists.

    Args:
      manual_dir: contains `JPEGImages`, `Annotations` and `ImageSets`, or the folder `DAVIS`.
      year: of the lists, see `davis.read_split`.
      splits: split -> which frames must have masks.
      labels: meaning of the masks' values.

    Raises:
      InputError: if a folder of the layout or all of the lists are missing.
    """
    inside = not (manual_dir / "JPEGImages").is_dir() and (manual_dir / "DAVIS").is_dir()
    root = manual_dir / "DAVIS" if inside else manual_dir
    years = {split: year for split in splits if davis.has_split(root, year, split)}
    if not years:
        davis.read_split(root, year, next(iter(splits)))  # raises, with what it found
    return listings(root, years, splits, labels)


def listings(
    root: Path, years: Mapping[str, str], masks: Mapping[str, davis.Masks], labels: Labels
) -> dict[str, Listing]:
    """The splits of `years` (split -> folder of its list); other sequences count as skipped."""
    splits = {
        split: listing(root, year, split, masks[split], labels) for split, year in years.items()
    }
    listed = {name for split, year in years.items() for name in davis.read_split(root, year, split)}
    if left_out := set(davis.sequence_names(root)) - listed:
        *_, last = splits
        skipped = {f"in no list {', '.join(splits)} of ImageSets": len(left_out)}
        splits[last] = dataclasses.replace(splits[last], skipped=skipped)
    return splits


def listing(
    root: Path, year: str, split: str | None, masks: davis.Masks, labels: Labels
) -> Listing:
    """One split, or with None all sequences; see `listings` and `davis.find_sequences`."""
    faults: list[str] = []
    sequences = davis.find_sequences(root, year=year, split=split, masks=masks, faults=faults)
    videos = [VideoFiles(s.name, s.frames, s.annotations, s.annotated, labels) for s in sequences]
    return video_listing(videos, faults)
