"""The training benchmark compares equal losses alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import training
from benchmarks.training import check_same, tables
from benchmarks.workload import Workload
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError
from tests.support.contenders import Counter, finished


def test_programs_with_different_losses_are_not_compared():
    ours = finished("JAX, ours", [1])
    with pytest.raises(InputError, match=r"2\.1.* first step"):
        check_same(Workload(), ours, finished("PyTorch", [1], first_value=2.1))
    with pytest.raises(InputError, match=r"nan .*last step"):
        check_same(Workload(), ours, finished("PyTorch", [1], loss=float("nan")))
    check_same(Workload(), ours, finished("PyTorch", [1], loss=2.00001))


@pytest.mark.parametrize(("start", "reason"), [(-1, "starts below zero"), (5, "loss 6")])
def test_torch_compile_may_fail_and_the_reason_is_kept(monkeypatch, start, reason):
    monkeypatch.setattr(training, "prepare_jax", _counter)
    monkeypatch.setattr(training, "prepare_torch", _counter_below if start < 0 else _counter_off)
    contenders, failures = training.compare(Workload(), compiled=True, rounds=1, steps=1)
    names = [contender.name for contender in contenders]
    assert names == ["JAX, ours", "JAX, ours, first run", "PyTorch"]
    assert reason in failures["torch.compile"]


def _counter(workload, state_file, cache):
    return Counter(0)


def _counter_below(workload, state_file, compiled):
    return Counter(-1 if compiled else 0)


def _counter_off(workload, state_file, compiled):
    return Counter(5 if compiled else 0)


def test_the_table_has_speeds_ratios_and_failures():
    pytest.importorskip("torch", reason="the work is counted on the PyTorch twin")
    contenders = [finished("JAX, ours", [1, 9, 1]), finished("PyTorch", [2, 18, 2])]
    table, rounds = tables(Workload(), contenders, {"torch.compile": "no compiler"})
    ours, twin = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert ours["triplets/s"] == 8
    assert (ours["our speed / its"], twin["our speed / its"]) == (1, 2)
    assert rounds.rows == [[1, 1, 2], [2, 9, 18], [3, 1, 2]]
    # By hand: 11.9 GFLOP forward a triplet, three times that with the gradients, batch of 8.
    assert ours["GFLOP/s"] == pytest.approx(8 * 3 * 11.9, rel=0.02)
    assert ours["% of matrix peak"] == pytest.approx(ours["GFLOP/s"])
    assert "torch.compile gave no result: no compiler" in table.note


def test_the_batch_is_as_the_pipeline_makes_it():
    batch = Workload(crop=64, batch_size=3).batch()
    assert batch["images"].shape == (3, 3, 64, 64, 3)
    assert batch["images"].dtype == batch["masks"].dtype == np.uint8
    assert batch["masks"].any(axis=(2, 3)).all()
    assert batch["boxes"].dtype == np.int32
    np.testing.assert_array_equal(batch["boxes"], mask_to_box(batch["masks"]))


@pytest.mark.slow
def test_ours_and_the_twin_take_the_same_steps(tmp_path):
    """Same weights, triplets and optimizer: the losses agree, with warm-up and clipping too."""
    pytest.importorskip("torch", reason="the twin is written in PyTorch")
    out = tmp_path / "out.json"
    program = [sys.executable, "-m", "benchmarks.training", "--device=cpu"]
    options = ["--crop=96", "--batch=4", "--rounds=2", f"--json={out}"]
    subprocess.run([*program, *options], check=True, cwd=Path(__file__).parents[2])
    table, _ = json.loads(out.read_text())["tables"]
    ours, _, twin = (float(row[-1]) for row in table["rows"])
    assert ours == pytest.approx(twin, rel=1e-4)
