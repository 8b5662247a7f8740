"""A model card's pictures come of a run's own files and of evaluate.py's own results."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from qmra_jax.errors import InputError
from scripts import model_card


def make_run(folder, values, held_out=None):
    """A workdir whose batches had these J, one a step, and whose held-out videos these."""
    folder.mkdir()
    rows = [{"step": k, "J_refined": j} for k, j in enumerate(values, 1)]
    rows.append({"step": len(values), "validation/J": 0.5})  # of other lines nothing is drawn
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step, j in (held_out or {}).items():
        (folder / "validation").mkdir(exist_ok=True)
        (folder / "validation" / f"{step:07d}.json").write_text(json.dumps({"J": j}))
    return folder


def test_runs_are_drawn_end_to_end(tmp_path):
    first = make_run(tmp_path / "a", [0.2] * 300, {300: 0.3})
    second = make_run(tmp_path / "b", [0.8] * 300, {150: 0.5, 300: 0.7})
    axes = model_card.curve([first, second]).axes[0]
    batches, validated = (line.get_xydata().tolist() for line in axes.lines)
    assert batches == [[100 * k, pytest.approx(0.2 if k < 4 else 0.8)] for k in range(1, 7)]
    assert validated == [[300, 0.3], [450, 0.5], [600, 0.7]]
    assert axes.get_xticks().tolist() == [0, 300, 600]


def test_the_worst_sequences_are_shown_with_box_masks_and_j(tiny_davis, tmp_path):
    results = tmp_path / "results"
    for name in ("left", "right"):
        folder = results / "Annotations" / name
        folder.mkdir(parents=True)
        for path in (tiny_davis / "Annotations" / "480p" / name).iterdir():
            Image.open(path).save(folder / path.name)
    scores = {n: {"J": {"mean": m}} for n, m in (("left", 0.9), ("right", 0.1))}
    text = json.dumps({"protocol": "davis2016", "sequences": scores})
    (results / "scores.json").write_text(text)
    sheet = model_card.failures(results, tiny_davis)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 2 * 160  # two rows
    rows = list(tiny_davis_rows(tiny_davis, results))
    (first, name), *others = rows
    assert name == "right"
    assert all(caption.endswith("J 1.00") for _, caption in others)
    assert (np.abs(np.diff(first.astype(int), axis=0)).sum() > 0).all()


def tiny_davis_rows(root, results):
    found = model_card.find_eval_videos(root, "davis2016", split="all", names=["right"])
    return model_card.sequence_pictures(
        found.videos[0], dict(found.pairs), results / "Annotations" / "right"
    )


def test_the_command_writes_both_and_tells_what_is_missing(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path / "run", [0.5] * 100)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["model_card.py", *map(str, arguments)])
        model_card.main()

    command(f"--output={tmp_path / 'card'}", "--runs", run)
    assert Image.open(tmp_path / "card-curve.png").width == 860
    for arguments, says in (
        (("--output=nowhere/card", "--runs", run), "nowhere: no such folder"),
        ((f"--output={tmp_path / 'card'}", "--runs", tmp_path), "expected the workdir of a run"),
        (
            (f"--output={tmp_path / 'card'}", f"--results={tmp_path}", f"--data_dir={tmp_path}"),
            "expected an output folder of evaluate.py",
        ),
    ):
        with pytest.raises(InputError, match=says):
            command(*arguments)
    with pytest.raises(SystemExit):
        command(f"--output={tmp_path / 'card'}")
    assert "expected --runs, --results, or both" in capsys.readouterr().err
