"""Selection runs evaluate.py on each dataset, from any working directory."""

import json

import pytest

from benchmarks import selection


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Replaces evaluate.py: every video gets J 0.5 and F 0.7; the list of its options."""
    calls = []

    def evaluate(args):
        calls.append(args)
        sequence = {"J": {"mean": 0.5}, "F": {"mean": 0.7}}
        args.output.mkdir(parents=True)
        scores = {"sequences": dict.fromkeys(args.sequences, sequence)}
        (args.output / "scores.json").write_text(json.dumps(scores))

    monkeypatch.setattr(selection.evaluate, "evaluate", evaluate)
    monkeypatch.setattr(selection, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(selection, "SELECTION", {"davis2016": ("left",), "web": ("a", "b")})
    monkeypatch.setenv("QMRA_DATA", "/data")
    monkeypatch.chdir(tmp_path)
    return calls


def test_all_datasets_are_evaluated_and_averaged(evaluated, capsys):
    selection.main(["out", "--weights=w.safetensors", "--short_side=240"])
    davis, web = evaluated
    assert (davis.dataset, davis.sequences) == ("davis2016", ["left"])
    assert str(davis.data_dir) == "/data/davis2016"
    assert (web.dataset, web.short_side, web.sequences) == ("davis2017", 240, ["a", "b"])
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == "0.500"
    summary = json.loads((davis.output.parent / "selection.json").read_text())
    assert list(summary["sequences"]) == ["davis2016/left", "web/a", "web/b"]
    assert summary["F"] == pytest.approx(0.7)


def test_missing_data_or_scores_are_one_line(evaluated, monkeypatch, capsys):
    monkeypatch.setattr(selection.evaluate, "evaluate", lambda args: None)  # other shards' work
    for data, named in (("/data", "out/davis2016/scores.json"), ("", "QMRA_DATA")):
        monkeypatch.setenv("QMRA_DATA", data)
        with pytest.raises(SystemExit) as ended:
            selection.main(["out", "--weights=w.safetensors"])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert named in line
