"""The table's arithmetic and the plot, on synthetic scores."""

import statistics

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation.plan import Run
from benchmarks.ablation.report import DIFFERENCE, differences, markdown, summary


def scores(j):
    part = {"mean": 0.4, "recall": 0.3, "decay": 0.1}
    return {"J": part | {"mean": j}, "F": part, "J&F": (j + 0.4) / 2}


def table(**rows):
    """A summary of J by row and seed; a row may have no scores."""
    found = {Run(row, seed): scores(j) for row, js in rows.items() for seed, j in js.items()}
    about = {"parameters": 7_867_430, "FLOP a frame": 22_600_000_000}
    about |= {"training seconds": 90.0, "trained as": "full"}
    return summary(found, pd.DataFrame(dict.fromkeys(rows, about)).T)


ROWS = {"gated": {0: 0.7}, "no_bca": {0: 0.5, 1: 0.56}, "full": {0: 0.6, 1: 0.64}, "no_crm": {}}


def cells(text, name):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    heads, (found,) = lines[0], [line for line in lines if line[0].strip() == name]
    return {h.strip(): cell.strip() for h, cell in zip(heads, found, strict=True)}


def test_means_spreads_and_differences_of_equal_seeds():
    found = table(**ROWS)
    assert found.index.tolist() == ["full", "no_bca", "no_crm", "gated"]  # the paper's order, new
    assert found["group"].tolist()[-1] == "new"
    bca = found.loc["no_bca"]
    assert bca["J mean"] == pytest.approx(0.53, abs=1e-12)
    assert bca["J mean deviation"] == pytest.approx(statistics.stdev([0.5, 0.56]))
    assert bca["J mean to full"] == pytest.approx(-0.09)
    assert bca["J mean to full deviation"] == pytest.approx(statistics.stdev([-0.1, -0.08]))
    assert bca["paper J mean to full"] == pytest.approx(-0.024, abs=1e-9)
    assert (bca["seeds"], found.loc["gated", "seeds"]) == ("0 1", "0")
    assert found.loc["gated", "J mean to full"] == pytest.approx(0.1)  # of the seed both have
    assert found.loc[["no_crm"], ["J mean", "J mean to full", "seeds"]].isna().all(axis=None)
    assert np.isnan(found.loc["gated", "paper J mean"])


def test_the_markdown_table_has_the_main_columns_and_what_is_missing():
    text = markdown(table(**ROWS), notes=["a note"], missing=["no_crm seed 0: to train"])
    bca = cells(text, "no_bca")
    assert bca["J mean"] == f"0.530 ± {statistics.stdev([0.5, 0.56]):.3f}"
    assert bca["to full"].startswith("−0.090 ± ")
    assert (bca["paper"], bca["paper's to full"], bca["sign"]) == ("0.818", "−0.024", "same")
    assert (bca["seeds"], bca["parameters"], bca["GFLOP"]) == ("2", "7,867,430", "22.6")
    assert bca["minutes"] == "1.5"
    assert cells(text, "full")["to full"] == cells(text, "no_crm")["J mean"] == "–"
    assert cells(text, "gated")["J mean"] == "0.700"
    assert "no_crm seed 0: to train" in text
    assert text.rstrip().endswith("a note")
    assert "Partial" not in markdown(table(**ROWS), notes=[])


def test_a_difference_within_its_standard_error_has_no_sign():
    rows = {"full": {0: 0.6, 1: 0.62}, "no_ef": {0: 0.65, 1: 0.57}, "no_crm": {0: 0.7, 1: 0.71}}
    text = markdown(table(**rows), notes=[])
    assert (cells(text, "no_ef")["sign"], cells(text, "no_crm")["sign"]) == ("?", "other")


def test_without_full_or_any_score_there_is_no_difference():
    for rows in ({"no_bca": {0: 0.5}, "full": {}}, {"no_bca": {}, "full": {}}):
        assert table(**rows)[DIFFERENCE].isna().all()
    assert cells(markdown(table(full={}), notes=[]), "full")["seeds"] == "0"


def test_the_plot_has_bars_for_ours_and_marks_for_the_papers():
    axes = differences(table(**ROWS)).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["no_bca", "no_crm", "gated"]
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(widths, [-0.09, np.nan, 0.1])
    papers = next(line for line in axes.lines if line.get_label().startswith("paper"))
    np.testing.assert_allclose(np.asarray(papers.get_xdata(), float), [-0.024, -0.02, np.nan])
