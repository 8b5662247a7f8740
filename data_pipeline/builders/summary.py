"""What a build made and left out, told to a person and written beside the dataset."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SHOWN_FAULTS = 20
FILE_NAME = "build_summary.json"


class Outcome(NamedTuple):
    """What became of items: of one, of a shard's or of a split's.

    Attributes:
      records: how many were made.
      counts: objects, frames, and what was repaired: what to how often.
      skipped: left out by the dataset's design: reason to how many.
      faults: left out because they are bad: a line each.
    """

    records: int = 0
    counts: Mapping[str, int] = {}
    skipped: Mapping[str, int] = {}
    faults: Sequence[str] = ()

    @classmethod
    def total(cls, parts: Iterable["Outcome"]) -> "Outcome":
        """All of them together."""
        records, counts, skipped, faults = 0, Counter[str](), Counter[str](), list[str]()
        for part in parts:
            records += part.records
            counts.update(part.counts)
            skipped.update(part.skipped)
            faults += part.faults
        return cls(records, {what: n for what, n in counts.items() if n}, dict(skipped), faults)


def as_text(title: str, splits: Mapping[str, Outcome], records: str) -> str:
    """A few lines for a terminal.

    Args:
      title: the first of them.
      splits: name to summary.
      records: what a record is, in the plural: "images".
    """
    lines = [title]
    for name, split in splits.items():
        counted = {records: split.records, **split.counts}
        lines.append(f"  {name}: " + "; ".join(f"{what}: {n:,}" for what, n in counted.items()))
        lines += [f"    left out by design: {n:,} {why}" for why, n in split.skipped.items()]
        if split.faults:
            lines.append(f"    left out as bad: {len(split.faults):,}")
            lines += [f"      {fault}" for fault in _shown(split.faults)]
    return "\n".join(lines)


def as_json(dataset: str, splits: Mapping[str, Outcome]) -> str:
    """All of it, every fault included."""
    content = {"dataset": dataset, "splits": {name: s._asdict() for name, s in splits.items()}}
    return json.dumps(content, indent=2) + "\n"


def faults_text(dataset: str, faults: Sequence[str], stage: str) -> str:
    """The message with which a build stops: how many faults, the first few, what to do.

    Args:
      dataset: its name.
      faults: a line each.
      stage: a sentence that says what has been checked by now.
    """
    count = f"{len(faults):,} fault" + "s" * (len(faults) != 1)
    return "\n  ".join(
        [
            f"{dataset}: {count}, so no dataset was written. Mend or remove the files, or"
            f" leave them out with --skip_bad (QMRA_SKIP_BAD=1). {stage}",
            *_shown(faults),
        ]
    )


def _shown(faults: Sequence[str]) -> list[str]:
    more = len(faults) - SHOWN_FAULTS
    return [*faults[:SHOWN_FAULTS], *([f"and {more:,} more"] if more > 0 else [])]
