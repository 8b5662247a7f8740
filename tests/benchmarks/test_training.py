"""The benchmark's own promises: programs take turns, in their own processes, at the same work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import training
from benchmarks.training import check_devices, check_same, tables
from benchmarks.turns import Contender, Turn, take_turns
from benchmarks.workload import Workload
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError


class Counter:
    """A program whose steps cost nothing."""

    def __init__(self, start):
        if start < 0:
            raise ValueError("starts below zero")
        self.value = start
        self.facts = {"process": os.getpid()}

    def step(self):
        self.value += 1
        return float(self.value)

    def matrix_product(self):
        return 1e9

    def peak_memory(self):
        return 0


def test_programs_take_turns_each_in_its_own_process():
    contenders = [Contender(f"from {start}", Counter, (start,)) for start in (0, 10)]
    for contender in contenders:
        contender.start()
    take_turns(contenders, rounds=2, steps=3)
    for contender in contenders:
        contender.stop()
    assert [turn.values for turn in contenders[1].turns] == [[12, 13, 14], [15, 16, 17]]
    assert len({os.getpid(), *(contender.facts["process"] for contender in contenders)}) == 3
    assert all(contender.facts["peak_rss"] > 2**20 for contender in contenders)


def test_a_program_that_fails_says_why():
    with pytest.raises(InputError, match=r"broken failed:[\s\S]*starts below zero"):
        Contender("broken", Counter, (-1,)).start()


def finished(name, seconds, loss=2.0, **facts):
    """A contender whose turns are over."""
    contender = Contender(name, Counter, ())
    contender.turns = [Turn([s], [2 * s], [loss], 100e9) for s in seconds]
    known = {"platform": "cpu", "device": "cpu", "version": "1", "first_value": 2.0}
    sizes = {"start_seconds": 3.0, "peak_rss": 2**30, "peak_device_memory": 0}
    contender.facts = known | sizes | facts
    return contender


def test_programs_that_do_not_compute_the_same_are_not_compared():
    ours = finished("JAX, ours", [1])
    with pytest.raises(InputError, match=r"ends its first step with the loss 2\.1"):
        check_same(Workload(), ours, finished("PyTorch", [1], first_value=2.1))
    with pytest.raises(InputError, match=r"ends its last step with the loss nan"):
        check_same(Workload(), ours, finished("PyTorch", [1], loss=float("nan")))
    with pytest.raises(InputError, match="PyTorch runs on the gpu, JAX on the cpu"):
        check_devices([ours, finished("PyTorch", [1], platform="gpu")])
    check_same(Workload(), ours, finished("PyTorch", [1], loss=2.00001))


@pytest.mark.parametrize(
    ("start", "reason"), [(-1, "starts below zero"), (5, "ends its first step with the loss 6")]
)
def test_torch_compile_may_fail_without_harm_and_the_table_says_why(monkeypatch, start, reason):
    monkeypatch.setattr(training, "prepare_jax", _counter_at_zero)
    monkeypatch.setattr(training, "prepare_torch", _counter_below if start < 0 else _counter_off)
    monkeypatch.setattr(training, "check_devices", lambda contenders: None)
    contenders, failures = training.compare(Workload(), compiled=True, rounds=1, steps=1)
    assert [contender.name for contender in contenders] == [
        "JAX, ours",
        "JAX, ours, first run",
        "PyTorch",
    ]
    assert reason in failures["torch.compile"]


def _counter_at_zero(workload, state_file, cache):
    return Counter(0)


def _counter_below(workload, state_file, compiled):
    return Counter(-1 if compiled else 0)


def _counter_off(workload, state_file, compiled):
    return Counter(5 if compiled else 0)


def test_a_slow_round_counts_on_both_sides():
    pytest.importorskip("torch", reason="the work is counted on the PyTorch twin")
    contenders = [finished("JAX, ours", [1, 9, 1]), finished("PyTorch", [2, 18, 2])]
    table, each = tables(Workload(), contenders, {"torch.compile": "no compiler"})
    ours, twin = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert ours["triplets/s"] == 8
    assert (ours["our speed / its"], twin["our speed / its"]) == (1, 2)
    assert each.rows == [[1, 1, 2], [2, 9, 18], [3, 1, 2]]
    # By hand: 11.9 GFLOP forward a triplet, three times that with the gradients, batch of 8.
    assert ours["GFLOP/s"] == pytest.approx(8 * 3 * 11.9, rel=0.02)
    assert ours["% of matrix peak"] == pytest.approx(ours["GFLOP/s"])
    assert "torch.compile gave no result: no compiler" in table.note


def test_the_batch_is_as_the_pipeline_gives_it():
    batch = Workload(crop=64, batch_size=3).batch()
    assert batch["images"].shape == (3, 3, 64, 64, 3)
    assert batch["images"].dtype == batch["masks"].dtype == np.uint8
    assert batch["masks"].any(axis=(2, 3)).all()
    np.testing.assert_array_equal(batch["boxes"], mask_to_box(batch["masks"]))


@pytest.mark.slow
def test_ours_and_the_twin_take_the_same_steps(tmp_path):
    """Same weights, triplets and optimiser: the losses stay together, warm-up and clipping too."""
    pytest.importorskip("torch", reason="the twin is written in PyTorch")
    out = tmp_path / "out.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.training", "--device=cpu"),
            *("--crop=96", "--batch=4", "--rounds=2", f"--json={out}"),
        ],
        check=True,
        cwd=Path(__file__).parents[2],
    )
    table, _ = json.loads(out.read_text())["tables"]
    ours, _, twin = (float(row[-1]) for row in table["rows"])
    assert ours == pytest.approx(twin, rel=1e-4)
