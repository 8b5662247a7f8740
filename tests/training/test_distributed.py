"""Two real processes on this machine with two devices each, connected by gloo."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from qmra_jax.errors import InputError
from qmra_jax.training import checkpoint, distributed, preemption
from tests.support.tiny import metric_lines, saved_arrays
from tests.support.tiny_config import STEPS

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_processes(arguments, commands):
    """Runs both processes; returns (exit status, standard output, standard error) of each."""
    address = f"127.0.0.1:{free_port()}"
    running = [
        subprocess.Popen(
            [sys.executable, *command, f"--distributed={address},2,{index}", *arguments],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(running, outputs, strict=True)]


@pytest.mark.parametrize("parallel", ["pmap", pytest.param("shard_map", marks=pytest.mark.slow)])
def test_signal_to_one_process_saves_both_at_one_step_and_one_process_resumes(
    miniature, miniature_config, miniature_run, tmp_path, parallel
):
    run = tmp_path / "run"
    arguments = [
        "--config=tests/support/tiny_config.py",
        f"--config.data.root={miniature_config.data.root}",
        f"--config.parallel={parallel}",
        "--config.checkpoint_every=1",  # writing a step must not count as having reached it
        f"--workdir={run}",
    ]
    script = ["-m", "tests.support.stops_itself", str(int(signal.SIGTERM))]
    ended = run_processes(arguments, [[*script, "99"], [*script, "1"]])
    for status, _, errors in ended:
        assert status == preemption.STOPPED, errors
    assert "Stopped after step" in ended[0][1]
    assert "Stopped" not in ended[1][1]  # the first process alone reports
    assert "step 1/" not in ended[1][1]
    stopped = checkpoint.checkpoint_steps(run)[-1]
    assert 1 < stopped < STEPS

    # Four devices compute what two do: they share one stream and average the gradients.
    lines, expected = metric_lines(run), metric_lines(miniature_run)
    assert [line["step"] for line in lines] == list(range(1, stopped + 1))
    for line, other in zip(lines, expected, strict=False):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)

    assert train.train(miniature_config, run) == 0
    actual, expected = saved_arrays(run), saved_arrays(miniature_run)
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_only_a_single_process_abandons_an_evaluation(monkeypatch):
    """Other processes would wait forever for its share."""
    for processes, abandons in ((1, True), (2, False)):
        monkeypatch.setattr(preemption.jax, "process_count", lambda count=processes: count)
        with preemption.StopRequest() as stop:
            assert not stop.at_once()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.at_once() == abandons
            assert stop.flags(2).tolist() == [True, True]


@pytest.mark.parametrize(
    "flag",
    ["10.0.0.1", "10.0.0.1:8476", "host:1,2", "host:1,two,0", ":x,2,0", "host:1,2,0,0", "h:1,2,2"],
)
def test_malformed_flag_is_refused(flag):
    with pytest.raises(InputError, match=f"--distributed={flag}: "):
        distributed.initialize(flag)


def test_single_process_agrees_with_itself():
    distributed.initialize("")
    distributed.barrier("anywhere")
    assert distributed.place() == (0, 1)
    assert distributed.is_first()
    assert distributed.gather(np.arange(3)).tolist() == [[0, 1, 2]]
    assert distributed.all_agree(True)
    assert not distributed.all_agree(False)


def test_processes_with_different_configs_are_refused(monkeypatch):
    digests = []
    monkeypatch.setattr(distributed, "all_equal", lambda digest: digests.append(digest) or True)
    same = {"seed": 0, "data": {"root": "/a", "workers": 2, "prefetch": 2, "crop": 64}}
    distributed.check_same_config(same)
    distributed.check_same_config(same | {"data": same["data"] | {"root": "/b", "workers": 8}})
    np.testing.assert_array_equal(*digests)
    for other in ({"seed": 1}, {"data": same["data"] | {"crop": 32}}):
        distributed.check_same_config(same | other)
        assert (digests[-1] != digests[0]).any()
    monkeypatch.setattr(distributed, "all_equal", lambda digest: False)
    with pytest.raises(InputError, match="different configs"):
        distributed.check_same_config(same)
