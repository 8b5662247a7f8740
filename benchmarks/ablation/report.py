"""The report of an ablation: table.md, table.csv and differences.png, with the paper's numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import network_cost
from benchmarks.ablation.plan import Run
from benchmarks.ablation.runs import Runs
from configs.ablations import GROUPS, PAPER, PAPER_WITH_COCO
from qmra_jax.files import written_whole
from qmra_jax.inference import memory_bank
from qmra_jax.network.build import build_model
from qmra_jax.plots import GREY, INK, bare, colour, new_figure
from qmra_jax.scoring.tables import align

REFERENCE = "full"
MEASURES = ("J mean", "J recall", "F mean", "F recall", "J&F")
DIFFERENCE = "J mean to full"
PAPER_MEASURES = ("J mean", "J recall", "J seen", "J unseen")  # of `PAPER`'s numbers

# Operations are counted at this number of memory frames, about a DAVIS video's mean at an interval
# of 10, and at DAVIS's 480p before eval.short_side applies.
MEMORY = 5
FRAME = (480, 854)


def write_report(runs: Runs, problems: Mapping[Run, str]) -> None:
    """Writes table.md, table.csv and differences.png for all runs in the folder.

    `problems` says why runs of this command failed.
    """
    plan, done = runs.plan, runs.evaluated()
    rows = tuple(dict.fromkeys([*plan.rows, *(run.row for run in done)]))
    seeds = tuple(dict.fromkeys([*plan.seeds, *(run.seed for run in done)]))
    whole = Runs(runs.folder, dataclasses.replace(plan, rows=rows, seeds=seeds), start=lambda *_: 0)
    scores = {run: scores for run in whole.plan.runs if (scores := whole.scores(run))}
    table = summary(scores, pd.DataFrame({row: _about(whole, row) for row in rows}).T)
    missing = [
        f"{run}: {problems.get(run) or runs.state(run)}" for run in plan.runs if run not in scores
    ]
    with written_whole(runs.folder / "table.md") as part:
        part.write_text(markdown(table, notes=_notes(whole), missing=missing))
    with written_whole(runs.folder / "table.csv") as part:
        table.to_csv(part, index_label="row", lineterminator="\n")
    if table[DIFFERENCE].notna().any():
        with written_whole(runs.folder / "differences.png") as part:
            differences(table).savefig(part, format="png")
    else:
        (runs.folder / "differences.png").unlink(missing_ok=True)


def summary(scores: Mapping[Run, Mapping], about: pd.DataFrame) -> pd.DataFrame:
    """All numbers by row, unrounded, NaN where unknown; rows in the paper's order, then new ones.

    The columns are each row's group; mean and sample standard deviation over seeds of `MEASURES`,
    and of `DIFFERENCE` between equal seeds; those of `about`; and the paper's numbers.
    """
    values = pd.DataFrame(
        {
            "row": run.row,
            "seed": run.seed,
            **{f"{x} {kind}": s[x][kind] for x in "JF" for kind in ("mean", "recall")},
            "J&F": s["J&F"],
        }
        for run, s in scores.items()
    ).reindex(columns=["row", "seed", *MEASURES])
    means, deviations = (values.groupby("row")[[*MEASURES]].agg(f) for f in ("mean", "std"))
    j = values.pivot(index="seed", columns="row", values="J mean")
    to_full = j.sub(j.get(REFERENCE, np.nan), axis=0).drop(columns=REFERENCE, errors="ignore")
    groups = {name: group for group, names in GROUPS.items() for name in names}
    names = sorted(about.index, key=lambda name: [*groups].index(name) if name in groups else 99)
    table = pd.DataFrame({"group": [groups.get(name, "new") for name in names]}, index=names)
    seeds = values.sort_values("seed").groupby("row")["seed"]
    table["seeds"] = seeds.agg(lambda seeds: " ".join(map(str, seeds)))
    for measure in MEASURES:
        table[measure], table[f"{measure} deviation"] = means[measure], deviations[measure]
    table[DIFFERENCE], table[f"{DIFFERENCE} deviation"] = to_full.mean(), to_full.std()
    table["seeds compared"] = to_full.count()
    paper = pd.DataFrame(PAPER, index=[f"paper {m}" for m in PAPER_MEASURES]).T / 100
    paper[f"paper {DIFFERENCE}"] = paper["paper J mean"] - PAPER[REFERENCE][0] / 100
    return table.join(about).join(paper.round(5))


def markdown(table: pd.DataFrame, *, notes: Sequence[str], missing: Sequence[str] = ()) -> str:
    """The main columns of a `summary` as Markdown, between what is missing and the notes."""
    heads = ["row", "J mean", "to full", "paper", "paper's to full", "sign", "F mean", "J&F"]
    lines = [[*heads, "seeds", "parameters", "GFLOP", "minutes"]]
    for name, row in table.iterrows():
        full = name == REFERENCE
        lines.append(
            [
                str(name),
                _spread(row, "J mean"),
                "–" if full else _spread(row, DIFFERENCE, "+.3f"),
                _number(row["paper J mean"]),
                "–" if full else _number(row[f"paper {DIFFERENCE}"], "+.3f"),
                _sign(row),
                _spread(row, "F mean"),
                _spread(row, "J&F"),
                str(len(str(row["seeds"]).split())) if pd.notna(row["seeds"]) else "0",
                f"{row['parameters']:,}",
                f"{row['FLOP a frame'] / 1e9:.1f}",
                _number(row["training seconds"] / 60, ".1f"),
            ]
        )
    parts = ["# Ablations"]
    if missing:
        parts.append("**Partial; not done yet:**\n\n" + "\n".join(f"- {x}" for x in missing))
    return "\n\n".join([*parts, align(lines), *notes]) + "\n"


def differences(table: pd.DataFrame) -> Figure:
    """Plots each row's J mean minus that of "full": ours as a bar, the paper's as a diamond."""
    table = table.drop(index=REFERENCE, errors="ignore")
    height = 110 + 34 * len(table)
    figure = new_figure(860, height)
    axes = figure.add_axes((0.2, 50 / height, 0.77, 1 - 90 / height))
    bare(axes, grid="x")
    y, deviations = np.arange(len(table)), table[f"{DIFFERENCE} deviation"]
    several = deviations.notna().any()
    label = "ours, mean and standard deviation over seeds" if several else "ours, one seed"
    style: dict[str, Any] = {"color": colour(0), "capsize": 4, "ecolor": INK, "label": label}
    axes.barh(y, table[DIFFERENCE], 0.45, xerr=deviations, **style)
    style = {"color": colour(1), "markeredgecolor": "white", "markersize": 9}
    axes.plot(table[f"paper {DIFFERENCE}"], y, "D", label="paper, DAVIS 2016 val", **style)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(y, table.index, color=INK)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "0")
    axes.set_xlabel("J mean: difference to the whole network", color=GREY)
    axes.legend(reverse=True, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def _about(runs: Runs, row: str) -> dict[str, object]:
    """The cost of a row's network and of its trainings."""
    trainings = [run.training for run in runs.plan.runs if run.row == row]
    config = runs.plan.config(Run(row, runs.plan.seeds[0]))
    module = build_model(config.model)
    memory = MEMORY if config.eval.extra_frames else memory_bank.EXTRA
    times = [runs.training_seconds(run) for run in trainings if runs.is_trained(run)]
    return {
        "parameters": network_cost.parameters(module),
        "FLOP a frame": network_cost.frame_flops(module, *_frame(config), memory),
        "training seconds": pd.Series(times, dtype=float).mean(),
        "trained as": trainings[0].row,
    }


def _frame(config) -> tuple[int, int]:
    """Height and width of the network's input."""
    (height, width), short_side = FRAME, config.eval.short_side
    return (short_side, round(width * short_side / height)) if short_side else FRAME


def _sign(row: pd.Series) -> str:
    """Whether a difference has the sign of the paper's; "?" within its standard error."""
    ours, papers = row[DIFFERENCE], row[f"paper {DIFFERENCE}"]
    if pd.isna(ours) or pd.isna(papers):
        return "–"
    deviation = row[f"{DIFFERENCE} deviation"]
    error = 0 if pd.isna(deviation) else deviation / row["seeds compared"] ** 0.5
    if abs(ours) <= error:
        return "?"
    return "same" if ours * papers > 0 else "other"


def _spread(row: pd.Series, name: str, form: str = ".3f") -> str:
    """Mean and deviation, such as "0.512 ± 0.008"."""
    deviation = row[f"{name} deviation"]
    return _number(row[name], form) + ("" if pd.isna(deviation) else f" ± {deviation:.3f}")


def _number(value: float, form: str = ".3f") -> str:
    return "–" if pd.isna(value) else f"{value:{form}}".replace("-", "−")


def _notes(runs: Runs) -> list[str]:
    """Paragraphs that explain the table."""
    plan = runs.plan
    config = plan.config(plan.runs[0])
    height, width = _frame(config)
    masks = [r for r in plan.rows if build_model(plan.config(Run(r, 0)).model).remembers == "mask"]
    start = f"; {', '.join(masks)} from that mask itself" if masks else ""
    shared = [f"{r.row} with {r.training.row}" for r in plan.runs if r.training != r]
    return [
        f"`{plan.command()} --workdir=...`",
        f"Every row: {config.steps} steps of {config.batch_size} triplets at"
        f" {config.data.crop}x{config.data.crop}, the same data in the same order. Scored:"
        f" {config.eval.videos} by {config.eval.protocol}, short side"
        f" {config.eval.short_side or 'unchanged'}, from the tight box of each first mask{start}.",
        "± is the sample standard deviation over seeds; differences are between equal seeds. Sign:"
        " whether a difference has the paper's sign, or ? within its standard error; a single seed"
        f" cannot tell it from chance. GFLOP: one object, {height}x{width}, {MEMORY} memory frames"
        f" ({memory_bank.EXTRA} without extra frames), 2 per multiply-add of convolution or matrix"
        " product. Minutes: all of train.py. table.csv has recalls and YouTube-VOS too.",
        "The paper's numbers are from its Table 3: ResNet-50, DAVIS 2016 val, its own training;"
        " compare differences, not absolute values. (Its last row, also trained on COCO:"
        f" {', '.join(map(str, PAPER_WITH_COCO))}.)",
        *([f"Trained once for both: {', '.join(dict.fromkeys(shared))}."] if shared else []),
    ]
