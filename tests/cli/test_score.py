"""`qmra score`: one method or several, what it writes, and what it refuses before any work."""

import json
from pathlib import Path

import pytest

from qmra_jax import cli
from qmra_jax.cli.score import listed, named_folders
from qmra_jax.errors import InputError
from qmra_jax.scoring import tasks

FIXTURES = Path(__file__).parents[1] / "fixtures" / "davis_metrics"
TRUTH, PREDICTIONS = FIXTURES / "gt", FIXTURES / "pred"


def run(*arguments) -> int:
    try:
        cli.main(["score", "--truth", str(TRUTH), *map(str, arguments)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def refused(capsys, *arguments) -> str:
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def unread(monkeypatch):
    """Fails the test once a mask is read."""

    def read(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(tasks, "read_labels", read)


@pytest.mark.parametrize("protocol", ["davis2017", "davis2016"])
def test_one_method_prints_a_table_and_writes_its_scores(tmp_path, capsys, protocol):
    command = ["--predictions", PREDICTIONS, "--protocol", protocol, "--output", tmp_path]
    assert run(*command) == 0
    assert "three-objects" in capsys.readouterr().out
    assert json.loads((tmp_path / "scores.json").read_text())["protocol"] == protocol
    assert "exists" in refused(capsys, *command)
    assert run(*command, "--overwrite", "--split", "all") == 0


def test_several_methods_are_compared_and_written_to_a_folder_each(tmp_path, capsys):
    methods = ["--predictions", f"a={PREDICTIONS}", "--predictions", f"b={PREDICTIONS}"]
    page = tmp_path / "page" / "report.html"
    assert run(*methods, "--output", tmp_path, "--report", page) == 0
    printed = capsys.readouterr().out
    assert "| method |" in printed
    assert str(page) in printed
    a, b = (json.loads((tmp_path / name / "scores.json").read_text()) for name in "ab")
    assert a == b
    assert (tmp_path / "a" / "per-sequence_results-val.csv").is_file()
    assert not (tmp_path / "a" / "frames.json").exists()
    assert page.read_text().startswith("<!doctype html>")


def test_frames_and_a_subset_are_written_as_asked(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("tiny\none-object\n")
    command = ["--predictions", PREDICTIONS, "--sequences", names, "--output", tmp_path / "out"]
    assert run(*command, "--frames") == 0
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["subset"] == {"scored": 2, "of": 5}
    frames = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert sorted(frames) == ["one-object", "tiny"]


@pytest.mark.usefixtures("unread")
def test_what_cannot_be_written_is_found_before_any_mask_is_read(tmp_path, capsys):
    command = ["--predictions", PREDICTIONS]
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(capsys, *command, "--output", tmp_path / "file" / "out")
    report = tmp_path / "file" / "r.html"
    assert "cannot write" in refused(capsys, *command, "--report", report)
    assert "is a folder" in refused(capsys, *command, "--report", tmp_path)
    (tmp_path / "global_results-val.csv").write_text("")
    assert "global_results-val.csv exists" in refused(capsys, *command, "--output", tmp_path)


@pytest.mark.usefixtures("unread")
def test_a_fault_of_any_method_is_found_before_the_first_is_scored(tmp_path, capsys):
    command = ["--predictions", PREDICTIONS, "--predictions", tmp_path]
    assert "expected masks of sequence one-object" in refused(capsys, *command)
    report = ["--report", tmp_path / "r.html", "--images", tmp_path]
    assert "expected frames" in refused(capsys, "--predictions", PREDICTIONS, *report)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--frames"], "--output"),
        (["--images", "x"], "--report"),
        (["--unseen", "cat"], "youtube_vos"),
        (["--sequences", "nobody"], "nobody"),
        (["--split", "test"], "test"),
        (["--protocol", "youtube_vos"], "valid"),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, options, told):
    assert told in refused(capsys, "--predictions", PREDICTIONS, *options)


def test_folders_are_named_by_themselves_or_as_told(tmp_path):
    odd = tmp_path / "a=b"
    odd.mkdir()
    (tmp_path / "run" / "Annotations").mkdir(parents=True)
    texts = [f"ours={tmp_path}", str(odd), str(tmp_path / "run" / "Annotations")]
    assert list(named_folders(texts)) == ["ours", "a=b", "run"]
    for wrong in (["runs/a/val", "runs/b/val"], ["=x"], ["a/b=x"], ["a="]):
        with pytest.raises(InputError, match="--predictions"):
            named_folders(wrong)


def test_words_come_from_commas_or_a_file(tmp_path):
    (tmp_path / "list.txt").write_text("cat\n\n dog \n")
    assert listed(str(tmp_path / "list.txt")) == listed("cat,dog") == ["cat", "dog"]
    with pytest.raises(InputError, match="names nothing"):
        listed(",")
