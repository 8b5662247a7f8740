"""What a build made and left out, told to a person and written beside the dataset."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from data_pipeline.builders.shards import Written

SHOWN_FAULTS = 20
FILE_NAME = "build_summary.json"


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """Of one split.

    Attributes:
      records: how many it has.
      counts: objects, frames, and what was repaired: what to how often.
      skipped: left out by the dataset's design: reason to how many.
      faults: left out because they are bad: a line each.
    """

    records: int
    counts: Mapping[str, int]
    skipped: Mapping[str, int]
    faults: tuple[str, ...]


def summed(
    written: Iterable[Written], skipped: Mapping[str, int], faults: Iterable[str]
) -> SplitSummary:
    """The summary of a split's shards, with what its listing skipped and found at fault."""
    written = list(written)
    counts, by_design = Counter[str](), Counter(skipped)
    for shard in written:
        counts.update(shard.counts)
        by_design.update(shard.skipped)
    return SplitSummary(
        records=sum(shard.records for shard in written),
        counts={what: n for what, n in counts.items() if n},
        skipped=dict(by_design),
        faults=(*faults, *(fault for shard in written for fault in shard.faults)),
    )


def as_text(title: str, splits: Mapping[str, SplitSummary], records: str) -> str:
    """A few lines for a terminal.

    Args:
      title: the first of them.
      splits: name to summary.
      records: what a record is, in the plural: "images".
    """
    lines = [title]
    for name, split in splits.items():
        counted = {records: split.records, **split.counts}
        lines.append(f"  {name}: " + ", ".join(f"{n:,} {what}" for what, n in counted.items()))
        lines += [f"    left out by design: {n:,} {why}" for why, n in split.skipped.items()]
        if split.faults:
            lines.append(f"    left out as bad: {len(split.faults):,}")
            lines += [f"      {fault}" for fault in _shown(split.faults)]
    return "\n".join(lines)


def as_json(dataset: str, splits: Mapping[str, SplitSummary]) -> str:
    """All of it, every fault included."""
    content: dict[str, Any] = {
        "dataset": dataset,
        "splits": {name: dataclasses.asdict(split) for name, split in splits.items()},
    }
    return json.dumps(content, indent=2) + "\n"


def faults_text(dataset: str, faults: Iterable[str]) -> str:
    """The message with which a build stops: how many faults, the first few, what to do."""
    faults = tuple(faults)
    count = f"{len(faults):,} fault" + "s" * (len(faults) != 1)
    return "\n  ".join(
        [
            f"{dataset}: {count}, so no dataset was written. Mend or remove the files, or"
            " leave them out with --skip_bad (QMRA_SKIP_BAD=1):",
            *_shown(faults),
        ]
    )


def _shown(faults: tuple[str, ...]) -> list[str]:
    more = len(faults) - SHOWN_FAULTS
    return [*faults[:SHOWN_FAULTS], *([f"and {more:,} more"] if more > 0 else [])]
