"""The table's arithmetic, on made scores."""

import csv
import io
import statistics

import numpy as np
import pytest

from configs.ablations import ABLATIONS, GROUPS, PAPER, TABLE_3
from qmra_jax import ablation_plot
from qmra_jax.ablation_table import Row, comma_separated, in_order, markdown, paper_difference


def scores(j, recall=0.5, f=0.4):
    return {
        "J": {"mean": j, "recall": recall, "decay": 0.1},
        "F": {"mean": f, "recall": 0.3, "decay": 0.1},
        "J&F": (j + f) / 2,
    }


def row(name, *js, seconds=(), first_seed=0):
    found = {seed: scores(j) for seed, j in enumerate(js, first_seed)}
    return Row(name, found, 7_867_430, 22_600_000_000, seconds, name)


ROWS = [row("no_bca", 0.50, 0.56, seconds=(60.0, 120.0)), row("full", 0.60, 0.64), row("no_crm")]


def cells(text, name):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    (found,) = [line for line in lines if line[1].strip() == name]
    return [cell.strip() for cell in found]


def test_means_spreads_and_differences_of_equal_seeds():
    text = markdown(ROWS, notes=["a note"])
    heads = cells(text, "row")
    found = dict(zip(heads, cells(text, "no_bca"), strict=True))
    assert found["J mean"] == f"0.530 ± {statistics.stdev([0.50, 0.56]):.3f}"
    assert found["to full"] == f"−0.090 ± {statistics.stdev([-0.10, -0.08]):.3f}"
    assert found["J&F"].startswith("0.465 ± ")
    assert found["seeds"] == "2"
    assert found["parameters"] == "7,867,430"
    assert found["GFLOP a frame"] == "22.6"
    assert found["training"] == "1.5 min"
    assert (found["paper J mean"], found["paper to full"]) == ("0.818", "−0.024")
    assert dict(zip(heads, cells(text, "full"), strict=True))["to full"] == "–"
    assert text.index(" full |") < text.index(" no_bca |")  # the paper's order
    assert text.rstrip().endswith("a note")


def test_a_difference_is_of_the_seeds_that_both_rows_have():
    other = row("no_bca", 0.50, first_seed=1)
    found = other.difference(row("full", 0.6, 0.7))
    assert (found.mean, found.deviation, found.count) == (pytest.approx(-0.2), None, 1)
    assert row("no_bca", 0.5, first_seed=7).difference(row("full", 0.6)) is None


def test_a_row_without_scores_shows_none_and_a_partial_table_says_what_is_missing():
    text = markdown(ROWS, notes=[], missing=["no_crm seed 0: to train"])
    assert cells(text, "no_crm")[2:7] == ["–"] * 5
    assert "**Partial: not done yet are**\n\n- no_crm seed 0: to train\n" in text
    assert "Partial" not in markdown(ROWS, notes=[])


def test_it_says_which_of_the_papers_orderings_show():
    rows = [row("full", 0.6, 0.62), row("no_bca", 0.5, 0.53), row("no_crm", 0.7, 0.71)]
    text = markdown([*rows, row("no_ef", 0.65, 0.57)], notes=[])
    assert "as in the paper: no_bca; the other way round: no_crm; unclear: no_ef." in text


def test_csv_has_every_number_unrounded_and_empty_cells_for_the_unknown():
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(comma_separated(ROWS)))}
    assert float(lines["no_bca"]["J mean"]) == pytest.approx(0.53, abs=1e-12)
    assert float(lines["no_bca"]["J mean to full deviation"]) == pytest.approx(
        statistics.stdev([-0.10, -0.08])
    )
    assert lines["no_bca"]["paper J mean to full"] == "-0.024"
    assert lines["no_crm"]["J mean"] == lines["no_crm"]["training seconds"] == ""
    assert lines["no_bca"]["training seconds"] == "90.0"
    l2 = next(csv.DictReader(io.StringIO(comma_separated([row("l2", 0.5)]))))
    assert l2["paper J mean"] == l2["J mean to full"] == ""


def test_a_row_of_no_group_stands_at_the_end():
    found = in_order([row("gated", 0.5), *ROWS])
    assert [r.name for _, r in found] == ["full", "no_bca", "no_crm", "gated"]
    assert found[-1][0] == "new"
    assert cells(markdown([*ROWS, row("gated", 0.7)], notes=[]), "gated")[2] == "0.700"


def test_groups_name_rows_once_and_the_papers_rows_have_their_printed_numbers():
    names = [name for names in GROUPS.values() for name in names]
    assert len(names) == len(set(names))
    assert set(names) <= set(ABLATIONS)  # one's own need none
    assert tuple(PAPER) == TABLE_3
    assert set(TABLE_3) <= set(ABLATIONS)
    assert PAPER["no_qma"] == (72.2, 81.5, 53.7, 32.2)  # the table's line "w/o QMA"
    assert paper_difference("no_qma") == pytest.approx(-0.12)
    assert paper_difference("l2") is None
    assert all(numbers[0] < 84.2 for name, numbers in PAPER.items() if name != "full")


def test_the_plot_has_a_bar_for_ours_and_a_mark_for_the_papers(tmp_path):
    axes = ablation_plot.differences(ROWS).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["no_bca", "no_crm"]
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(widths, [-0.09, np.nan])  # no_crm has no scores
    papers = next(line for line in axes.lines if line.get_label().startswith("paper"))
    np.testing.assert_allclose(papers.get_xdata(), [-0.024, -0.02])
    path = tmp_path / "differences.png"
    assert ablation_plot.write_differences(path, ROWS)
    assert path.stat().st_size > 1000
    assert not ablation_plot.write_differences(path, [row("no_bca", 0.5)])  # no row to differ from
    assert not path.exists()
