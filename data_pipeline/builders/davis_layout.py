"""The splits of a dataset in the DAVIS layout, as a builder lists them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from data_pipeline.builders.items import Listing
from data_pipeline.builders.videos import Labels, VideoFiles, video_listing
from data_pipeline.datasets import davis


def official_listings(
    manual_dir: Path, year: str, splits: Mapping[str, davis.Masks], labels: Labels
) -> dict[str, Listing]:
    """Those splits of DAVIS itself whose list is there.

    Args:
      manual_dir: that holds `JPEGImages`, `Annotations` and `ImageSets`, or `DAVIS` that does.
      year: of the lists, see `davis.read_split`.
      splits: name -> which frames must have masks.
      labels: what the masks hold.

    Raises:
      InputError: if a folder of the layout or all of the lists are missing.
    """
    inside = not (manual_dir / "JPEGImages").is_dir() and (manual_dir / "DAVIS").is_dir()
    root = manual_dir / "DAVIS" if inside else manual_dir
    years = {split: year for split in splits if davis.has_split(root, year, split)}
    if not years:
        davis.read_split(root, year, next(iter(splits)))  # says what was expected and found
    return listings(root, years, splits, labels)


def listings(
    root: Path, years: Mapping[str, str], masks: Mapping[str, davis.Masks], labels: Labels
) -> dict[str, Listing]:
    """The splits that the lists of `ImageSets` name; what none of them names counts as skipped.

    Args:
      root: that holds `JPEGImages`, `Annotations` and `ImageSets`.
      years: split -> the folder of its list.
      masks: split -> which frames must have masks.
      labels: what the masks hold.

    Raises:
      InputError: if a folder of the layout or a list is missing.
    """
    found = {
        split: listing(root, year, split, masks[split], labels) for split, year in years.items()
    }
    listed = {name for split, year in years.items() for name in davis.read_split(root, year, split)}
    if left_out := set(davis.sequence_names(root)) - listed:
        *_, last = found
        skipped = {f"in no list {', '.join(found)} of ImageSets": len(left_out)}
        found[last] = dataclasses.replace(found[last], skipped=skipped)
    return found


def listing(
    root: Path, year: str, split: str | None, masks: davis.Masks, labels: Labels
) -> Listing:
    """One split, or with None all there is; see `listings` and `davis.find_sequences`."""
    faults: list[str] = []
    sequences = davis.find_sequences(root, year=year, split=split, masks=masks, faults=faults)
    videos = [VideoFiles(s.name, s.frames, s.annotations, s.annotated, labels) for s in sequences]
    return video_listing(videos, faults)
