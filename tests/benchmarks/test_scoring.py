"""The scoring benchmark times the official toolkit's method on equal scores."""

import json
from pathlib import Path

import pytest

pytest.importorskip("skimage")

from benchmarks import davis_twin, scoring
from qmra_jax.scoring.score import score_folder

FIXTURES = Path(__file__).parents[1] / "fixtures" / "davis_metrics"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())["sequences"]


def test_the_twin_reproduces_the_official_numbers():
    names = sorted({name.rsplit("_", 1)[0] for name in EXPECTED})
    truth = FIXTURES / "gt" / "Annotations" / "480p"
    found = davis_twin.evaluate(truth, FIXTURES / "pred", names)
    assert found.keys() == EXPECTED.keys()
    for name, scores in EXPECTED.items():
        for measure in "JF":
            expected = list(scores[measure].values())
            assert found[name][measure] == pytest.approx(expected, abs=1e-12)


def test_each_method_is_timed_in_every_round(tmp_path):
    names = scoring.make_masks(tmp_path, sequences=2, frames=4, objects=2)
    spent = scoring.compare(tmp_path, names, rounds=2)
    assert [len(runs) for runs in spent.values()] == [2, 2, 2]
    rows = scoring.table({2: spent}, frames=4).rows
    assert [row[1] for row in rows] == list(spent)
    assert rows[0][3] == rows[0][5] == 1


def test_scores_that_differ_are_not_timed(tmp_path, monkeypatch):
    names = scoring.make_masks(tmp_path, sequences=1, frames=4, objects=1)
    scores = score_folder(tmp_path / "truth", tmp_path / "predictions", split=None, progress=False)
    assert 0 < scores["J&F"] < 1
    monkeypatch.setattr(davis_twin, "BOUNDARY_SHARE", 0.001)
    with pytest.raises(AssertionError, match="the scores differ by"):
        scoring.compare(tmp_path, names, rounds=1)
