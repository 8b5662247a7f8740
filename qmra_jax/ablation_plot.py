"""An ablation's picture: each row's difference to the whole network, ours beside the paper's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qmra_jax.ablation_table import REFERENCE, Row, in_order, paper_difference
from qmra_jax.files import written_whole
from qmra_jax.plots import GREY, INK, bare, colour, new_figure


def write_differences(path: Path, rows: Sequence[Row]) -> bool:
    """Writes a PNG, or removes one that is there where no row has a difference to show.

    Args:
      path: of the PNG.
      rows: "full" among them.

    Returns:
      whether there was something to draw.
    """
    figure = differences(rows)
    if figure is None:
        path.unlink(missing_ok=True)
        return False
    with written_whole(path) as part:
        figure.savefig(part, format="png")
    return True


def differences(rows: Sequence[Row]) -> Figure | None:
    """Differences in J mean to "full": a bar a row with its standard deviation, paper's a diamond.

    Args:
      rows: "full" among them; without scores a row has the paper's mark alone.

    Returns:
      None if "full" or every other row has no scores.
    """
    reference = next((row for row in rows if row.name == REFERENCE), None)
    others = [row for _, row in in_order(rows) if row.name != REFERENCE]
    spreads = [row.difference(reference) if reference else None for row in others]
    if not any(spreads):
        return None
    means = [spread.mean if spread else np.nan for spread in spreads]
    deviations = [(spread and spread.deviation) or np.nan for spread in spreads]
    papers = np.array([paper_difference(row.name) for row in others], float)
    height = 110 + 34 * len(others)
    figure = new_figure(860, height)
    axes = figure.add_axes((0.2, 50 / height, 0.77, 1 - 90 / height))
    bare(axes, grid="x")
    several = any(spread and spread.count > 1 for spread in spreads)
    label = "ours, mean and standard deviation over seeds" if several else "ours, one seed"
    y = np.arange(len(others))
    axes.barh(y, means, 0.45, color=colour(0), xerr=deviations, capsize=4, ecolor=INK, label=label)
    axes.plot(papers, y, "D", color=colour(1), markeredgecolor="white", markersize=9,
              label="paper, DAVIS 2016 val")  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(y, [row.name for row in others], color=INK)
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "0")
    axes.set_xlabel("J mean: difference to the whole network", color=GREY)
    axes.legend(reverse=True, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure
