"""Training gives the same result on 1 device, on 8, and on 2 processes of 4, with either wrapper.

All settings that could make a difference are on: SGD with momentum, clipping, weight decay,
synchronised BatchNorm, micro-batches, predicted maps, bootstrapping, averaged weights.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ONE = ("miniature:pmap:1", "miniature:pmap:8", "miniature:shard_map:8")
REAL = ("real:pmap:1", "real:shard_map:8")
TWO = ("miniature:pmap:8", "miniature:shard_map:8")


def begin(folder, devices, cases, *arguments):
    """Starts a process that runs the cases and writes their results to the folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.invariance", folder, *cases, *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*running):
    try:
        for process in running:
            _, errors = process.communicate(timeout=1200)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in running:
            process.kill()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(processes, case, rank) -> result of a run; all processes run at the same time."""
    folders = {n: tmp_path_factory.mktemp(f"processes{n}") for n in (1, 2)}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    two = (begin(folders[2], 4, TWO, f"--rank={rank}", f"--port={port}") for rank in (0, 1))
    finish(*two, begin(folders[1], 8, ONE))
    return lambda processes, case, rank=0: dict(np.load(folders[processes] / f"{case}.{rank}.npz"))


def assert_same_training(run, reference):
    assert run.keys() == reference.keys()
    np.testing.assert_allclose(run["losses"], reference["losses"], rtol=1e-5)
    assert np.ptp(reference["losses"]) > 0.1  # it learned something
    apart = moved = 0.0
    for name, expected in reference.items():
        if name.split("/")[0] in ("params", "ema", "stats"):
            np.testing.assert_allclose(run[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
        if name.startswith("params/"):
            apart += np.square(run[name] - expected).sum()
            moved += np.square(expected - reference[name.replace("params", "start", 1)]).sum()
    assert apart**0.5 < 1e-3 * moved**0.5  # the difference is small relative to the change


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_eight_devices_train_as_one(results, mode):
    assert_same_training(results(1, f"miniature:{mode}:8"), results(1, "miniature:pmap:1"))


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_of_four_devices_train_as_one_device(results, mode, rank):
    assert_same_training(results(2, f"miniature:{mode}:8", rank), results(1, "miniature:pmap:1"))


@pytest.mark.slow  # it compiles for long; the miniature above has all that depends on devices
def test_real_network_trains_on_eight_devices_as_on_one(tmp_path):
    finish(begin(tmp_path, 8, REAL))
    one, eight = (dict(np.load(tmp_path / f"{case}.0.npz")) for case in REAL)
    assert_same_training(eight, one)
