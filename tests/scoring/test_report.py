"""The report: self-contained, every method in every plot, worst frames shown."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.masks import read_labels, write_labels
from qmra_jax.scoring import report
from qmra_jax.scoring.report import Result, over_objects, write_report
from qmra_jax.scoring.report_frames import over_time
from qmra_jax.scoring.score import plan_folder, score_plan

FIXTURES = Path(__file__).parents[1] / "fixtures" / "davis_metrics"


@pytest.fixture(scope="module")
def worse(tmp_path_factory):
    """The fixture's predictions moved by three pixels."""
    folder = tmp_path_factory.mktemp("worse")
    for path in sorted((FIXTURES / "pred").rglob("*.png")):
        moved = np.roll(read_labels(path), 3, axis=0)
        write_labels(folder / path.parent.name / path.name, moved)
    return folder


def result(predictions, **settings):
    plan = plan_folder(FIXTURES / "gt", predictions, **settings)
    return Result(plan, score_plan(plan, frames=True, progress=False))


@pytest.fixture(scope="module")
def methods(worse):
    return {"ours": result(FIXTURES / "pred"), "<b>theirs": result(worse)}


@pytest.fixture(scope="module")
def page(methods, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    return write_report(path, methods).read_text()


def pictures(page):
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    ]


def test_the_page_loads_nothing_from_elsewhere_and_escapes_names(page):
    addresses = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert addresses
    assert all(a.startswith(("data:", "#")) for a in addresses)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "<b>theirs" not in page
    assert "&lt;b&gt;theirs" in page


def test_every_sequence_has_one_plot_and_a_key_for_each_method(page, methods):
    assert len(re.findall(r'<img class="plot"[^>]* src="data:image/svg', page)) == 5
    assert page.count('class="key"') == 5 * len(methods)


def test_the_tables_hold_the_scores_and_the_best_is_bold(page, methods):
    ours, theirs = (r.scores["J&F"] for r in methods.values())
    assert ours > theirs
    assert f"<td><b>{ours:.3f}</b></td>" in page
    assert f"<td>{theirs:.3f}</td>" in page
    tiny = methods["ours"].scores["sequences"]["tiny"]
    assert f"{tiny['F']['mean']:.3f}" in page


def test_worst_and_best_frames_are_shown_with_the_truth_and_each_method(page, methods):
    frames = methods["ours"].scores["frames"]["tiny"]
    values = frames["objects"]["1"]["J"]
    worst = frames["names"][int(np.argmin(values))]
    section = page.split('<h2 id="tiny">')[1].split("<h2")[0]
    assert re.search(rf"<figcaption>Frame {worst}, worst of ours", section)
    assert "best of &lt;b&gt;theirs" in section
    captions = re.findall(r"<figcaption>(Frame .*?)</figcaption>", section)
    assert all(": the truth, then ours, &lt;b&gt;theirs" in caption for caption in captions)
    sizes = {picture.size for picture in pictures(section)}
    assert all(width > 3 * height for width, height in sizes)  # three pictures side by side


def test_a_single_method_shows_its_objects_as_thin_lines(tmp_path):
    page = write_report(tmp_path / "r.html", {"ours": result(FIXTURES / "pred")}).read_text()
    section = page.split('<h2 id="three-objects">')[1].split("<h2")[0]
    assert "thin: each object" in section
    figure = over_time({"ours": [0.5, 1]}, ["0", "1"], thin={"object 1": [0.2, 1]})
    thin, ours, *_ = figure.axes[0].lines
    assert (thin.get_label(), ours.get_label()) == ("object 1", "ours")
    assert thin.get_linewidth() < ours.get_linewidth()
    assert thin.get_color() == ours.get_color()


def test_frames_lie_behind_the_masks_where_they_are_given(tmp_path, worse):
    blue = tmp_path / "images" / "JPEGImages" / "tiny"
    blue.mkdir(parents=True)
    only = {"m": result(worse, sequences=["tiny"])}
    masks = sorted((FIXTURES / "gt" / "Annotations" / "480p" / "tiny").glob("*.png"))
    height, width = read_labels(masks[0]).shape
    for mask in masks:
        Image.new("RGB", (width, height), (0, 0, 250)).save(blue / f"{mask.stem}.png")
    shown = pictures(write_report(tmp_path / "a.html", only, tmp_path / "images").read_text())
    corner = np.asarray(shown[0])[3, 3]
    assert corner[2] > 200 > 60 > corner[0]
    shutil.rmtree(blue)
    with pytest.raises(InputError, match="tiny"):
        write_report(tmp_path / "b.html", only, tmp_path / "images")
    assert not (tmp_path / "b.html").exists()


def test_davis2016s_0_255_masks_are_pictured_as_their_one_object(tmp_path):
    truth = tmp_path / "D" / "Annotations" / "480p" / "square"
    for t in range(4):
        mask = np.zeros((30, 40), np.uint8)
        mask[8:20, 5 + t : 20 + t] = 255
        write_labels(truth / f"{t:05d}.png", mask)
    plan = plan_folder(
        tmp_path / "D", tmp_path / "D" / "Annotations" / "480p", protocol="davis2016", split=None
    )
    own = Result(plan, score_plan(plan, frames=True, progress=False))
    picture = np.asarray(
        pictures(write_report(tmp_path / "r.html", {"m": own}).read_text())[0], np.int32
    )
    tile = picture.shape[1] // 2
    for half in (picture[:, :tile], picture[:, tile:]):
        assert (half[..., 0] > half[..., 2] + 50).mean() > 0.05  # the object's red


def test_many_sequences_keep_their_plots_but_not_all_pictures(methods, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PICTURED", 1)
    page = write_report(tmp_path / "r.html", methods).read_text()
    assert page.count('<img class="plot"') == 5
    worst = min(
        methods["ours"].scores["sequences"],
        key=lambda name: sum(r.scores["sequences"][name]["J&F"] for r in methods.values()),
    )
    with_pictures = [part for part in page.split("<h2 id=")[1:] if "image/jpeg" in part]
    assert [part.split('"')[1] for part in with_pictures] == [worst]


def test_the_mean_over_objects_leaves_out_those_that_are_not_scored():
    frames = {"objects": {"1": {"J": [1.0, 0.5, None]}, "2": {"J": [None, 0.0, None]}}}
    assert over_objects(frames) == [1.0, 0.25, None]


def test_a_line_has_a_gap_where_there_is_no_value_and_a_dot_where_one_stands_alone():
    line = over_time({"$a_b$": [0.0, 1.0, None, 0.5]}, ["$0", "1", "2", "3"]).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [0, 1, np.nan, 0.5])
    assert line.get_markevery() == [3]
