"""The table of variants has each row's own network and number of memory frames."""

import json

from benchmarks import variants


def test_rows_have_their_changes_parameters_and_work(tmp_path, monkeypatch, capsys):
    rows = ("full", "1stage", "no_ef")
    monkeypatch.setattr(variants, "ABLATIONS", {name: variants.ABLATIONS[name] for name in rows})
    monkeypatch.setattr(variants, "SIZES", {"small": "small"})
    monkeypatch.setattr(variants, "HEIGHT", 96)
    monkeypatch.setattr(variants, "WIDTH", 160)
    path = tmp_path / "variants.json"
    variants.main(["--memory=9", f"--json={path}"])
    printed = capsys.readouterr().out
    (table,) = json.loads(path.read_text())["tables"]
    found = {row[0]: row[1:] for row in table["rows"]}
    assert list(found) == list(rows)
    assert found["full"][:2] == ["the paper's network", "7,867,430"]
    assert found["1stage"][:2] == ["`stages=1`", "6,304,530"]
    assert found["no_ef"][:2] == ["`eval.extra_frames=False`", "7,867,430"]
    assert float(found["1stage"][2]) < float(found["no_ef"][2]) <= float(found["full"][2])
    assert "| 1stage | `stages=1` | 6,304,530 |" in printed
