"""Written scores: JSON, the official toolkit's CSV files, nothing stale."""

import json
from pathlib import Path

import pytest

from qmra_jax.errors import InputError
from qmra_jax.scoring.files import write_scores
from qmra_jax.scoring.score import score_folder

FIXTURES = Path(__file__).parents[1] / "fixtures" / "davis_metrics"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


@pytest.fixture(scope="module")
def scores():
    return score_folder(FIXTURES / "gt", FIXTURES / "pred", frames=True, progress=False)


def test_the_csv_files_are_the_official_toolkits_to_the_letter(scores, tmp_path):
    write_scores(scores, tmp_path)
    j, f = EXPECTED["global"]["J"], EXPECTED["global"]["F"]
    numbers = [EXPECTED["global"]["J&F"], *j.values(), *f.values()]
    assert (tmp_path / "global_results-val.csv").read_text() == (
        "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n"
        + ",".join("%.3f" % n for n in numbers)  # noqa: UP031 (how the toolkit rounds)
        + "\n"
    )
    lines = (tmp_path / "per-sequence_results-val.csv").read_text().splitlines()
    assert lines[0] == "Sequence,J-Mean,F-Mean"
    assert lines[1:] == [
        f"{name},{s['J']['mean']:.3f},{s['F']['mean']:.3f}"
        for name, s in EXPECTED["sequences"].items()
    ]


def test_davis2016_has_one_object_per_sequence_and_no_split_names_the_files_all(tmp_path):
    scores = score_folder(
        FIXTURES / "gt", FIXTURES / "pred", protocol="davis2016", split=None, progress=False
    )
    write_scores(scores, tmp_path)
    lines = (tmp_path / "per-sequence_results-all.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"{n}_1" for n in scores["sequences"]]
    assert (tmp_path / "global_results-all.csv").is_file()


def test_frames_go_to_a_separate_file_that_is_removed_with_its_scores(scores, tmp_path):
    write_scores(scores, tmp_path)
    assert "frames" not in json.loads((tmp_path / "scores.json").read_text())
    frames = json.loads((tmp_path / "frames.json").read_text())["one-object"]
    values = frames["objects"]["1"]["J"]
    assert len(values) == len(frames["names"]) == 10
    mean = scores["sequences"]["one-object"]["objects"]["1"]["J"]["mean"]
    assert sum(values) / len(values) == pytest.approx(mean)
    write_scores({k: v for k, v in scores.items() if k != "frames"}, tmp_path)
    assert not (tmp_path / "frames.json").exists()


def test_scores_are_written_whole_with_every_digit_and_further_entries(scores, tmp_path):
    scores = {k: v for k, v in scores.items() if k != "frames"} | {"fps": 12.345678901234567}
    path = write_scores(scores, tmp_path / "new")
    assert path == tmp_path / "new" / "scores.json"
    assert json.loads(path.read_text()) == scores
    csv_files = ["global_results-val.csv", "per-sequence_results-val.csv"]
    assert sorted(p.name for p in path.parent.iterdir()) == [*csv_files, "scores.json"]
    with pytest.raises(TypeError):
        write_scores({"J": object()}, path.parent)
    assert json.loads(path.read_text()) == scores


def test_a_folder_that_cannot_be_written_to_is_refused(scores, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=str(tmp_path / "file")):
        write_scores(scores, tmp_path / "file" / "scores")
