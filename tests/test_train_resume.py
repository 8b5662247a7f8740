"""A run that was stopped, however it was stopped, ends bitwise as one that was not."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from qmra_jax.errors import InputError
from qmra_jax.training import checkpoint, preemption
from tests.support.tiny import assert_same_run, metric_lines, saved_arrays
from tests.support.tiny_config import STEPS

pytestmark = pytest.mark.usefixtures("compile_once")

ROOT = Path(__file__).parents[1]


def stop_at(monkeypatch, number, act):
    """The data stream does something when it is asked for batch `number`."""

    def open_stream(*args, whole=train.open_stream, **options):
        for count, batch in enumerate(whole(*args, **options)):
            if count == number:
                act()
            yield batch

    monkeypatch.setattr(train, "open_stream", open_stream)


def test_a_signal_saves_at_once_and_the_run_goes_on_to_the_same_end(
    tiny_config, finished_run, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        stop_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train.train(tiny_config, tmp_path / "run") == preemption.STOPPED
    assert checkpoint.checkpoint_steps(tmp_path / "run")[-1] == 6
    assert "run the same command to go on" in capsys.readouterr().out

    assert train.train(tiny_config, tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", finished_run)
    assert [line["step"] for line in metric_lines(tmp_path / "run")] == list(range(1, STEPS + 1))


def test_a_second_signal_has_its_usual_effect():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's & turns off
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with preemption.StopRequest() as stop:
        assert not stop.reached({})
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reached({})
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_crash_between_checkpoints_costs_nothing_but_time(
    tiny_config, finished_run, tmp_path, monkeypatch
):
    def crash():
        raise OSError("the cable was pulled")

    with monkeypatch.context() as patch:
        stop_at(patch, 7, crash)
        with pytest.raises(OSError, match="cable"):
            train.train(tiny_config, tmp_path / "run")
    assert checkpoint.checkpoint_steps(tmp_path / "run")[-1] == 5  # a validation's
    # What a crash in the middle of writing leaves behind is not taken for a checkpoint.
    half = tmp_path / "run" / "checkpoints" / "7.orbax-checkpoint-tmp-1"
    shutil.copytree(tmp_path / "run" / "checkpoints" / "4", half)
    assert checkpoint.checkpoint_steps(tmp_path / "run")[-1] == 5
    assert train.train(tiny_config, tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", finished_run)
    assert not half.exists()


def test_kill_9_costs_nothing_but_time(tiny_config, finished_run, tmp_path):
    arguments = [
        "--config=tests/support/tiny_config.py",
        f"--config.data.root={tiny_config.data.root}",
        "--config.cpu_devices=2",
        f"--workdir={tmp_path / 'run'}",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.support.stops_itself",
            str(int(signal.SIGKILL)),
            "6",
            "real",
            *arguments,
        ],
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    # The checkpoint of step 4 may or may not have been whole by then.
    assert checkpoint.checkpoint_steps(tmp_path / "run") in ([], [4])
    assert train.train(tiny_config, tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", finished_run)


@pytest.fixture
def nearly_finished(finished_run, tmp_path):
    """A copy of the run with two steps to go."""
    shutil.copytree(finished_run, tmp_path / "nearly")
    shutil.rmtree(tmp_path / "nearly" / "checkpoints" / str(STEPS))
    assert checkpoint.checkpoint_steps(tmp_path / "nearly")[-1] == STEPS - 2
    return tmp_path / "nearly"


def test_signals_are_heard_until_the_last_checkpoint_is_written(
    tiny_config, nearly_finished, monkeypatch
):
    heard = []

    def close(manager, whole=checkpoint.ocp.CheckpointManager.close):
        heard.append(signal.getsignal(signal.SIGTERM))
        whole(manager)

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "close", close)
    assert train.train(tiny_config, nearly_finished) == 0
    assert heard[-1] not in (signal.SIG_DFL, None)


def test_a_run_that_is_asked_to_stop_at_its_last_step_is_done(
    tiny_config, nearly_finished, monkeypatch
):
    config = tiny_config.copy_and_resolve_references()
    config.eval.every = 0
    stop_at(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train.train(config, nearly_finished) == 0


def test_a_validation_that_a_signal_cut_short_is_done_when_the_run_goes_on(
    tiny_config, finished_run, tmp_path
):
    shutil.copytree(finished_run, tmp_path / "run")
    scores = tmp_path / "run" / "validation" / f"{STEPS:07d}.json"
    before = scores.read_text()
    scores.unlink()
    assert train.train(tiny_config, tmp_path / "run") == 0
    assert scores.read_text() == before


def test_a_damaged_checkpoint_is_told_put_aside_and_the_one_before_is_taken(
    tiny_config, finished_run, tmp_path, capsys
):
    shutil.copytree(finished_run, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / str(STEPS)
    for path in (newest / "training").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert train.train(tiny_config, tmp_path / "run") == 0
    told = capsys.readouterr().err
    assert f"{newest} cannot be read" in told
    assert "going on from step 8" in told
    assert (newest.parent / f"damaged-{STEPS}").is_dir()
    assert_same_run(tmp_path / "run", finished_run)


def test_where_no_checkpoint_can_be_read_nothing_is_moved_and_the_run_is_refused(
    tiny_config, finished_run, tmp_path
):
    shutil.copytree(finished_run, tmp_path / "run")
    steps = checkpoint.checkpoint_steps(tmp_path / "run")
    for step in steps:
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step) / "training")
    with pytest.raises(InputError, match=r"none of its checkpoints .* can be read"):
        train.train(tiny_config, tmp_path / "run")
    assert checkpoint.checkpoint_steps(tmp_path / "run") == steps


def test_the_same_arrays_means_optimiser_state_too(finished_run):
    names = saved_arrays(finished_run)
    assert any("opt_state" in name and "mu" in name for name in names)
    assert any(name.startswith("model/params") for name in names)
    assert all(np.isfinite(array).all() for array in names.values())
