"""Yardsticks are scored as any method is."""

import numpy as np
import pytest

from benchmarks import yardsticks
from data_pipeline.datasets.davis import find_sequences
from qmra_jax.masks import read_labels
from qmra_jax.scoring.metrics import jaccard


def test_each_yardstick_has_the_j_that_its_masks_have(tiny_davis):
    scores = yardsticks.score_yardsticks(tiny_davis, "val")
    for sequence in find_sequences(tiny_davis, split="val", need_frames=False):
        truth = np.stack([read_labels(path) > 0 for path in sequence.annotations])
        boxes = np.zeros_like(truth)
        for mask, box in zip(truth, boxes, strict=True):
            rows, columns = np.nonzero(mask)
            box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        expected = {
            "box held still": np.broadcast_to(boxes[:1], truth.shape),
            "mask held still": np.broadcast_to(truth[:1], truth.shape),
            "perfect box": boxes,
        }
        for name, masks in expected.items():  # the protocol leaves out the first and last frames
            j = jaccard(truth[1:-1], masks[1:-1]).mean()
            found = scores[name]["sequences"][sequence.name]["J"]["mean"]
            assert found == pytest.approx(j, abs=1e-9)


def test_other_masks_are_scored_beside_them(tiny_davis, capsys):
    truth = tiny_davis / "Annotations" / "480p"
    command = [f"--data_dir={tiny_davis}", f"--predictions=same={truth}", "--split=all"]
    yardsticks.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == [
        "| masks",
        "| ---",
        *(f"| {name}" for name in yardsticks.YARDSTICKS),
        "| same",
    ]
    assert lines[-1].startswith("| same | 1.000 | 1.000 |")
    with pytest.raises(SystemExit):
        yardsticks.main([f"--data_dir={tiny_davis}", "--predictions=perfect box=."])
    assert "perfect box" in capsys.readouterr().err
