"""An ablation's table: means and spreads over seeds, and the paper's numbers beside ours."""

import csv
import dataclasses
import io
import math
import statistics
from collections.abc import Mapping, Sequence

from configs.ablations import GROUPS, PAPER
from qmra_jax.scoring.tables import align

REFERENCE = "full"
MEASURES = ("J mean", "J recall", "F mean", "F recall", "J&F")
PAPER_MEASURES = ("J mean", "J recall", "J seen", "J unseen")  # of `PAPER`'s numbers


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of a row.

    Attributes:
      name: of `configs.ablations.ABLATIONS`.
      scores: seed -> J and F as `scores.json` has them; those seeds alone that are done.
      parameters: how many are trained.
      flops: of one frame.
      seconds: of each finished training; those that are its own or serve it.
      trained_as: the row whose training serves it; its own name if it has one.
    """

    name: str
    scores: Mapping[int, Mapping]
    parameters: int
    flops: int
    seconds: Sequence[float] = ()
    trained_as: str = ""

    def values(self, measure: str) -> dict[int, float]:
        """Seed -> a measure of `MEASURES`, 0 to 1."""
        if measure == "J&F":
            return {seed: scores["J&F"] for seed, scores in self.scores.items()}
        letter, kind = measure.split()
        return {seed: scores[letter][kind] for seed, scores in self.scores.items()}

    def difference(self, other: "Row", measure: str = "J mean") -> "Spread | None":
        """How much more it has than another row, over the seeds that both have."""
        here, there = self.values(measure), other.values(measure)
        return Spread.of([here[seed] - there[seed] for seed in here if seed in there])


@dataclasses.dataclass(frozen=True)
class Spread:
    """Several seeds' values.

    Attributes:
      mean: of them.
      deviation: the sample standard deviation; None of a single one.
      count: how many there are.
    """

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None where there are no values."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))

    def text(self, sign: bool = False) -> str:
        """Such as "0.512 ± 0.008"."""
        mean = f"{self.mean:+.3f}" if sign else f"{self.mean:.3f}"
        return mean.replace("-", "−") + (
            "" if self.deviation is None else f" ± {self.deviation:.3f}"
        )


def paper_difference(name: str) -> float | None:
    """A row's J mean on DAVIS 2016's val less that of the whole network, by the paper; 0 to 1."""
    return (PAPER[name][0] - PAPER[REFERENCE][0]) / 100 if name in PAPER else None


def in_order(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Each row after its group, in the paper's order; at the end those of no group: new ones."""
    by_name = {row.name: row for row in rows}
    grouped = [(group, name) for group, names in GROUPS.items() for name in names]
    known = {name for _, name in grouped}
    new = [("new", name) for name in by_name if name not in known]
    return [(group, by_name[name]) for group, name in grouped + new if name in by_name]


def markdown(rows: Sequence[Row], *, notes: Sequence[str], missing: Sequence[str] = ()) -> str:
    """The table for people.

    Args:
      rows: in any order.
      notes: what a reader must know, a paragraph each.
      missing: of each run that is not done, what it is and why.
    """
    reference = next((row for row in rows if row.name == REFERENCE), None)
    heads = ["group", "row", "J mean", "to full", "J recall", "F mean", "J&F", "seeds"]
    heads += ["parameters", "GFLOP a frame", "training"]
    heads += [f"paper {name}" for name in ("J mean", "to full", "J recall", "J seen", "J unseen")]
    table = [heads]
    for group, row in in_order(rows):
        shown = {m: _text(Spread.of(list(row.values(m).values()))) for m in MEASURES}
        difference = _difference(row, reference)
        cells = [shown["J mean"], _text(difference, sign=True)]
        cells += [shown[m] for m in ("J recall", "F mean", "J&F")]
        seconds = f"{statistics.fmean(row.seconds) / 60:.1f} min" if row.seconds else "–"
        cells += [str(len(row.scores)), f"{row.parameters:,}", f"{row.flops / 1e9:.1f}", seconds]
        table.append([group, row.name, *cells, *_paper(row.name)])
    parts = ["# Ablations", *_partial(rows, missing), align(table), *agreement(rows), *notes]
    return "\n\n".join(parts) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """The table for programs: every number by itself, nothing rounded; empty where unknown."""
    reference = next((row for row in rows if row.name == REFERENCE), None)
    names = [*MEASURES, "J mean to full"]
    heads = ["group", "row", "seeds"]
    heads += [f"{name}{kind}" for name in names for kind in ("", " deviation")]
    heads += ["parameters", "FLOP a frame", "training seconds", "trained as"]
    heads += [f"paper {name}" for name in (*PAPER_MEASURES, "J mean to full")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for group, row in in_order(rows):
        spreads = [Spread.of(list(row.values(measure).values())) for measure in MEASURES]
        cells: list[object] = [group, row.name, " ".join(map(str, sorted(row.scores)))]
        for spread in (*spreads, _difference(row, reference)):
            cells += [spread.mean, spread.deviation] if spread else [None, None]
        seconds = statistics.fmean(row.seconds) if row.seconds else None
        cells += [row.parameters, row.flops, seconds, row.trained_as or row.name]
        paper = [round(value / 100, 5) for value in PAPER.get(row.name, ())]
        difference = paper_difference(row.name)
        paper += [] if difference is None else [round(difference, 5)]
        writer.writerow([*cells, *paper, *[None] * (5 - len(paper))])
    return out.getvalue()


def agreement(rows: Sequence[Row]) -> list[str]:
    """Which of the paper's differences have the same sign here: a paragraph, or none.

    One that is smaller than its own standard error over seeds, or of a single seed, says little.
    """
    reference = next((row for row in rows if row.name == REFERENCE), None)
    found: dict[str, list[str]] = {"as in the paper": [], "the other way round": [], "unclear": []}
    for _, row in in_order(rows):
        ours, papers = _difference(row, reference), paper_difference(row.name)
        if ours is None or not papers:
            continue
        error = (ours.deviation or 0.0) / math.sqrt(ours.count)
        if ours.mean == 0 or abs(ours.mean) <= error:
            found["unclear"].append(row.name)
        else:
            same = (ours.mean > 0) == (papers > 0)
            found["as in the paper" if same else "the other way round"].append(row.name)
    told = [f"{kind}: {', '.join(names)}" for kind, names in found.items() if names]
    if not told:
        return []
    return [
        f"The sign of the difference to full in J mean is, {'; '.join(told)}. (Unclear is what is"
        " not above its standard error over seeds. Of a single seed there is no telling what is"
        " chance.)"
    ]


def _difference(row: Row, reference: Row | None) -> Spread | None:
    """None of the whole network itself, and where that is missing."""
    return row.difference(reference) if reference and row.name != REFERENCE else None


def _partial(rows: Sequence[Row], missing: Sequence[str]) -> list[str]:
    if not missing:
        return []
    lines = "\n".join(f"- {line}" for line in missing)
    return [f"**Partial: not done yet are**\n\n{lines}"]


def _paper(name: str) -> list[str]:
    if name not in PAPER:
        return ["–"] * 5
    j, recall, seen, unseen = (f"{value / 100:.3f}" for value in PAPER[name])
    difference = paper_difference(name)
    assert difference is not None
    text = "–" if name == REFERENCE else f"{difference:+.3f}".replace("-", "−")
    return [j, text, recall, seen, unseen]


def _text(spread: Spread | None, sign: bool = False) -> str:
    return "–" if spread is None else spread.text(sign)
