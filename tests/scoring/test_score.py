"""Folders of masks get the official toolkit's scores, or are refused by name."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.masks import read_labels, write_labels
from qmra_jax.scoring.metrics import boundary_f, jaccard
from qmra_jax.scoring.score import format_table, score_folder
from qmra_jax.scoring.tables import format_comparison

FIXTURES = Path(__file__).parents[1] / "fixtures" / "davis_metrics"
FIXTURE = FIXTURES / "gt", FIXTURES / "pred"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
MEASURED = [(m, s) for m in ("J", "F") for s in ("mean", "recall", "decay")]


@pytest.fixture(scope="module")
def official():
    """Our scores of the fixture; EXPECTED has the official toolkit's."""
    return score_folder(*FIXTURE, progress=False)


@pytest.fixture
def dataset(tmp_path):
    """A copy of the fixture that a test may spoil: (truth, predictions)."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    return tmp_path / "gt", tmp_path / "pred"


def numbers(scores):
    return [scores[m][s] for m, s in MEASURED] + [scores["J&F"]]


def test_the_scores_equal_the_official_toolkits(official):
    pairs = [(official, EXPECTED["global"])]
    for name, expected in EXPECTED["sequences"].items():
        sequence, label = name.rsplit("_", 1)
        pairs.append((official["sequences"][sequence]["objects"][label], expected))
    for found, expected in pairs:
        for m, s in MEASURED:
            assert found[m][s] == pytest.approx(expected[m][s], abs=1e-9, rel=0)
    assert official["J&F"] == pytest.approx(EXPECTED["global"]["J&F"], abs=1e-9, rel=0)
    scored = {f"{name}_{k}" for name, s in official["sequences"].items() for k in s["objects"]}
    assert scored == set(EXPECTED["sequences"])
    assert official["objects"] == len(scored)
    assert (official["protocol"], official["split"]) == ("davis2017", "2017/val")


def test_a_sequences_score_is_the_mean_over_its_objects(official):
    three = official["sequences"]["three-objects"]
    expected = np.mean([numbers(scores) for scores in three["objects"].values()], axis=0)
    np.testing.assert_allclose(numbers(three), expected, rtol=1e-12)


def test_the_number_of_workers_does_not_change_the_scores(official):
    for workers in (1, 3):
        assert score_folder(*FIXTURE, progress=False, workers=workers) == official


def test_predictions_may_lie_under_annotations_and_lack_unscored_frames(
    official, dataset, tmp_path
):
    truth, predictions = dataset
    predictions.rename(tmp_path / "Annotations")
    for name in official["sequences"]:
        files = sorted((tmp_path / "Annotations" / name).iterdir())
        files[0].unlink()
        files[-1].unlink()
    assert score_folder(truth, tmp_path, progress=False) == official


def test_davis2016_merges_the_objects_and_averages_over_sequences(dataset):
    truth, predictions = dataset
    scores = score_folder(truth, predictions, protocol="davis2016", progress=False)
    assert "objects" not in scores["sequences"]["three-objects"]
    assert scores["objects"] == 5
    assert format_table(scores).splitlines()[-1].startswith("| mean  ")
    expected = np.mean([numbers(s) for s in scores["sequences"].values()], axis=0)
    np.testing.assert_allclose(numbers(scores), expected, rtol=1e-12)
    for name in ("three-objects", "touching-border"):  # void is in the latter
        t, p = (
            np.stack([read_labels(path) for path in sorted(folder.iterdir())])[1:-1]
            for folder in (truth / "Annotations/480p" / name, predictions / name)
        )
        merged = (t > 0) & (t != 255), p > 0
        assert scores["sequences"][name]["J"]["mean"] == jaccard(*merged).mean()
        assert scores["sequences"][name]["F"]["mean"] == boundary_f(*merged).mean()


def only_255(truth, predictions):
    for path in (truth / "Annotations/480p/tiny").iterdir():
        write_labels(path, read_labels(path) * np.uint8(255))


def a_surplus_object(truth, predictions):
    labels = read_labels(predictions / "tiny" / "00002.png")
    labels[0, 0] = 4
    write_labels(predictions / "tiny" / "00002.png", labels)


def two_masks(truth, predictions):
    for path in sorted((truth / "Annotations/480p/tiny").iterdir())[2:]:
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (only_255, "sequence tiny .*--protocol davis2016"),  # 255 is void in davis2017
        (a_surplus_object, r"tiny.00002\.png .*label 4"),
        (two_masks, "sequence tiny has 2 masks"),
        (lambda _, pred: (pred / "tiny/00003.png").unlink(), r"tiny: .*00003\.png"),
        (lambda _, pred: shutil.rmtree(pred / "tiny"), "tiny .*found leaves-and-returns, one-"),
        (lambda _, pred: shutil.rmtree(pred), "pred: .*no such folder"),
        (
            lambda _, pred: write_labels(pred / "tiny/00003.png", np.zeros((32, 48), np.uint8)),
            r"00003\.png is 48x32, .*00000\.png is 64x64",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(dataset, spoil, named):
    spoil(*dataset)
    with pytest.raises(InputError, match=named):
        score_folder(*dataset, progress=False)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match="davis2019"):
        score_folder(*FIXTURE, protocol="davis2019")


def test_some_sequences_or_all_of_a_dataset_without_lists_can_be_scored(official, dataset):
    truth, predictions = dataset
    shutil.rmtree(truth / "ImageSets")
    shutil.rmtree(truth / "JPEGImages")
    every = score_folder(truth, predictions, split=None, progress=False)
    assert every["sequences"] == official["sequences"]
    assert every["split"] == "all"
    tiny = score_folder(truth, predictions, split=None, sequences=["tiny"], progress=False)
    assert tiny["sequences"] == {"tiny": official["sequences"]["tiny"]}


def test_a_subset_of_a_split_is_reported(official):
    assert "subset" not in official
    for split in ("val", None):
        tiny = score_folder(*FIXTURE, split=split, sequences=["tiny"], progress=False)
        assert tiny["subset"] == {"scored": 1, "of": 5}
    assert format_table(tiny).endswith("a subset: 1 of the 5 sequences of all")


def test_frames_hold_the_values_of_the_means(official):
    scores = score_folder(*FIXTURE, frames=True, progress=False)
    for name, frames in scores.pop("frames").items():
        assert frames["names"] == [f"{k:05d}" for k in range(1, len(frames["names"]) + 1)]
        for label, values in frames["objects"].items():
            expected = official["sequences"][name]["objects"][label]
            for measure in "JF":
                mean = expected[measure]["mean"]
                assert np.mean(values[measure]) == pytest.approx(mean, abs=1e-12)
    assert scores == official


def test_a_list_outside_the_years_is_found(dataset):
    truth, predictions = dataset
    shutil.rmtree(truth / "ImageSets")
    (truth / "ImageSets").mkdir()
    (truth / "ImageSets" / "held.txt").write_text("tiny\n")
    scores = score_folder(truth, predictions, split="held", progress=False)
    assert (list(scores["sequences"]), scores["split"]) == (["tiny"], "held")


def test_methods_are_compared_with_the_best_of_each_column_marked(official):
    worse = {**official, "J&F": 0.1, "J": {**official["J"], "decay": -0.5}}
    lines = format_comparison({"a": official, "b": worse}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads, a, b = cells[0], cells[2], cells[3]
    assert (a[1], b[1]) == (f"{official['J&F']:.3f}*", "0.100")
    decay = heads.index("J decay")
    assert (a[decay], b[decay]) == (f"{official['J']['decay']:.3f}", "-0.500*")  # less is better
    recall = heads.index("J recall")
    assert a[recall] == b[recall] == f"{official['J']['recall']:.3f}*"  # equals are both best
    rows = {row[0]: row[1:] for row in cells[5:]}
    assert rows["J&F of sequence"] == ["a", "b"]
    assert list(rows)[2:] == list(official["sequences"])


def test_the_protocols_own_list_is_preferred(dataset):
    truth, predictions = dataset
    (truth / "ImageSets/480p").mkdir()
    (truth / "ImageSets/480p/val.txt").write_text("/JPEGImages/480p/tiny/00000.jpg /Ann...\n")
    scores = {
        protocol: score_folder(truth, predictions, protocol=protocol, progress=False)
        for protocol in ("davis2016", "davis2017")
    }
    assert list(scores["davis2016"]["sequences"]) == ["tiny"]
    assert scores["davis2016"]["split"] == "2016/val"
    assert len(scores["davis2017"]["sequences"]) == 5
    other = score_folder(truth, predictions, year="2016", progress=False)
    assert list(other["sequences"]) == ["tiny"]


def test_progress_is_shown_on_standard_error_if_asked(capsys):
    score_folder(*FIXTURE, progress=True)
    shown = capsys.readouterr()
    assert "5/5" in shown.err
    assert shown.out == ""
    score_folder(*FIXTURE, progress=False)
    assert capsys.readouterr().err == ""


def test_no_thread_outlives_a_refusal(dataset):
    truth, predictions = dataset
    (predictions / "one-object" / "00003.png").write_text("not an image")
    before = set(threading.enumerate())
    with pytest.raises(InputError, match=r"00003\.png"):
        score_folder(truth, predictions, progress=False)
    assert set(threading.enumerate()) <= before


def test_the_table_has_aligned_rows_of_sequences_then_the_mean(official):
    lines = format_table(official).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:3] == ["sequence", "J mean", "J recall"]
    assert cells[0][-2:] == ["F decay", "J&F"]
    assert [row[0] for row in cells[2:]] == [*official["sequences"], "mean of 9 objects"]
    assert cells[-1][1:] == [f"{number:.3f}" for number in numbers(official)]
    assert cells[2][1:] == [f"{n:.3f}" for n in numbers(official["sequences"]["one-object"])]


def test_the_table_shows_frames_per_second_where_measured(official):
    tiny = {**official["sequences"]["tiny"], "fps": 7.25}
    sequences = {**official["sequences"], "tiny": tiny}
    lines = format_table({**official, "sequences": sequences, "fps": 3.14}).splitlines()
    fps = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines}
    assert fps["sequence"] == "fps"
    assert (fps["tiny"], fps["one-object"], fps["mean of 9 objects"]) == ("7.2", "", "3.1")
