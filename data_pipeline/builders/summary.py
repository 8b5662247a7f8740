"""What a build made and left out, for the terminal and for the file beside the dataset."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SHOWN_FAULTS = 20
FILE_NAME = "build_summary.json"


class Outcome(NamedTuple):
    """The outcome of one item, of a shard or of a split.

    Attributes:
      records: number of records made.
      counts: objects, frames, repairs: name to number.
      skipped: left out by the dataset's design: reason to number.
      faults: bad items, one line each.
    """

    records: int = 0
    counts: Mapping[str, int] = {}
    skipped: Mapping[str, int] = {}
    faults: Sequence[str] = ()

    @classmethod
    def total(cls, parts: Iterable["Outcome"]) -> "Outcome":
        """The sum of outcomes."""
        records, counts, skipped, faults = 0, Counter[str](), Counter[str](), list[str]()
        for part in parts:
            records += part.records
            counts.update(part.counts)
            skipped.update(part.skipped)
            faults += part.faults
        return cls(records, {what: n for what, n in counts.items() if n}, dict(skipped), faults)


def as_text(title: str, splits: Mapping[str, Outcome], records: str) -> str:
    """The summary in a few lines; `records` is what a record is, in the plural: "images"."""
    lines = [title]
    for name, split in splits.items():
        counted = {records: split.records, **split.counts}
        lines.append(f"  {name}: " + "; ".join(f"{what}: {n:,}" for what, n in counted.items()))
        lines += [f"    left out by design: {n:,} {why}" for why, n in split.skipped.items()]
        if split.faults:
            lines.append(f"    left out as bad: {len(split.faults):,}")
            lines += [f"      {fault}" for fault in _first(split.faults)]
    return "\n".join(lines)


def as_json(dataset: str, splits: Mapping[str, Outcome]) -> str:
    """The whole summary, with every fault."""
    content = {"dataset": dataset, "splits": {name: s._asdict() for name, s in splits.items()}}
    return json.dumps(content, indent=2) + "\n"


def faults_text(dataset: str, faults: Sequence[str], stage: str) -> str:
    """The error message of a stopped build; `stage` says what has been checked so far."""
    count = f"{len(faults):,} fault" + "s" * (len(faults) != 1)
    head = (
        f"{dataset}: {count}, so no dataset was written. Fix or remove the files, or leave them out"
        f" with --skip_bad (QMRA_SKIP_BAD=1). {stage}"
    )
    return "\n  ".join([head, *_first(faults)])


def _first(faults: Sequence[str]) -> list[str]:
    more = len(faults) - SHOWN_FAULTS
    return [*faults[:SHOWN_FAULTS], *([f"and {more:,} more"] if more > 0 else [])]
