"""`qmra score`: one method or several, what it writes, and what it refuses before reading masks."""

import json
from pathlib import Path

import pytest

from qmra_jax.cli.score import listed, named_folders
from qmra_jax.errors import InputError
from qmra_jax.scoring import tasks
from tests.support import commands

FIXTURES = Path(__file__).parents[1] / "fixtures" / "davis_metrics"
TRUTH, PREDICTIONS = FIXTURES / "gt", FIXTURES / "pred"


def score(*arguments):
    assert commands.qmra("score", "--truth", TRUTH, *arguments) == 0


def refused(capsys, *arguments):
    return commands.refused(capsys, "score", "--truth", TRUTH, *arguments)


@pytest.fixture
def unread(monkeypatch):
    """Fails the test if a mask is read."""

    def read(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(tasks, "read_labels", read)


@pytest.mark.parametrize("protocol", ["davis2017", "davis2016"])
def test_one_method_prints_a_table_and_writes_its_scores(tmp_path, capsys, protocol):
    command = ["--predictions", PREDICTIONS, "--protocol", protocol, "--output", tmp_path]
    score(*command)
    assert "three-objects" in capsys.readouterr().out
    assert json.loads((tmp_path / "scores.json").read_text())["protocol"] == protocol
    assert "exists" in refused(capsys, *command)
    score(*command, "--overwrite", "--split", "all")


def test_several_methods_are_compared_and_written_to_a_folder_each(tmp_path, capsys):
    methods = ["--predictions", f"a={PREDICTIONS}", "--predictions", f"b={PREDICTIONS}"]
    page = tmp_path / "page" / "report.html"
    score(*methods, "--output", tmp_path, "--report", page)
    printed = capsys.readouterr().out
    assert "| method |" in printed
    assert str(page) in printed
    a, b = (json.loads((tmp_path / name / "scores.json").read_text()) for name in "ab")
    assert a == b
    assert (tmp_path / "a" / "per-sequence_results-val.csv").is_file()
    assert not (tmp_path / "a" / "frames.json").exists()
    assert page.read_text().startswith("<!doctype html>")


def test_frames_and_a_subset_are_written_when_asked_for(tmp_path):
    names, output = tmp_path / "names.txt", tmp_path / "out"
    names.write_text("tiny\none-object\n")
    score("--predictions", PREDICTIONS, "--sequences", names, "--output", output, "--frames")
    scores = json.loads((output / "scores.json").read_text())
    assert scores["subset"] == {"scored": 2, "of": 5}
    assert sorted(json.loads((output / "frames.json").read_text())) == ["one-object", "tiny"]


@pytest.mark.usefixtures("unread")
def test_faults_are_found_before_any_mask_is_read(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "global_results-val.csv").write_text("")
    for options, named in (
        (("--output", tmp_path / "file" / "out"), "cannot write"),
        (("--report", tmp_path / "file" / "r.html"), "cannot write"),
        (("--report", tmp_path), "is a folder"),
        (("--output", tmp_path), "global_results-val.csv exists"),
        (("--predictions", tmp_path), "one-object"),
        (("--report", tmp_path / "r.html", "--images", tmp_path), "JPEGImages/one-object"),
    ):
        assert named in refused(capsys, "--predictions", PREDICTIONS, *options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--frames"], "--output"),
        (["--images", "x"], "--report"),
        (["--unseen", "cat"], "youtube_vos"),
        (["--sequences", "nobody"], "nobody"),
        (["--split", "test"], "test"),
        (["--protocol", "youtube_vos"], "valid"),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, options, named):
    assert named in refused(capsys, "--predictions", PREDICTIONS, *options)


def test_methods_are_named_by_their_folder_or_explicitly(tmp_path):
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
    with pytest.raises(InputError, match="','"):
        listed(",")
