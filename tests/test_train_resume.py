"""A run that was stopped, in whatever way, ends bitwise as an uninterrupted run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import train
from qmra_jax.errors import InputError
from qmra_jax.training import checkpoint, preemption
from tests.support.tiny import assert_same_run, metric_lines
from tests.support.tiny_config import STEPS

pytestmark = pytest.mark.usefixtures("compile_once")

ROOT = Path(__file__).parents[1]


def at_batch(monkeypatch, number, act):
    """Makes the data stream call `act` when it is asked for batch `number`."""

    def open_stream(*args, whole=train.open_stream, **options):
        for count, batch in enumerate(whole(*args, **options)):
            if count == number:
                act()
            yield batch

    monkeypatch.setattr(train, "open_stream", open_stream)


def send_sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def copied(miniature_run, tmp_path):
    """A copy of the uninterrupted run."""
    return shutil.copytree(miniature_run, tmp_path / "run")


def test_signal_saves_at_once_and_the_run_resumes(
    miniature, miniature_config, miniature_run, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_batch(patch, 5, send_sigterm)
        assert train.train(miniature_config, run) == preemption.STOPPED
    assert checkpoint.checkpoint_steps(run)[-1] == 6
    assert "step 6" in capsys.readouterr().out

    assert train.train(miniature_config, run) == 0
    assert_same_run(run, miniature_run)
    assert [line["step"] for line in metric_lines(run)] == list(range(1, STEPS + 1))


def test_second_signal_has_its_usual_effect():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & disables it
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with preemption.StopRequest() as stop:
        assert not stop.reached({})
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reached({})
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_crash_between_checkpoints_loses_nothing(
    miniature, miniature_config, miniature_run, tmp_path, monkeypatch
):
    def crash():
        raise OSError("the cable was pulled")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_batch(patch, 7, crash)
        with pytest.raises(OSError, match="cable"):
            train.train(miniature_config, run)
    assert checkpoint.checkpoint_steps(run) == [4]
    # What a crash during writing leaves behind is not a checkpoint.
    half = run / "checkpoints" / "7.orbax-checkpoint-tmp-1"
    shutil.copytree(run / "checkpoints" / "4", half)
    assert checkpoint.checkpoint_steps(run) == [4]
    assert train.train(miniature_config, run) == 0
    assert_same_run(run, miniature_run)
    assert not half.exists()


def test_kill_9_loses_nothing(miniature, miniature_config, miniature_run, tmp_path):
    run = tmp_path / "run"
    arguments = [
        "--config=tests/support/tiny_config.py",
        f"--config.data.root={miniature_config.data.root}",
        "--config.cpu_devices=2",
        f"--workdir={run}",
    ]
    killed = ["-m", "tests.support.stops_itself", str(int(signal.SIGKILL)), "6"]
    done = subprocess.run([sys.executable, *killed, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    # The checkpoint of step 4 may or may not have been complete by then.
    assert checkpoint.checkpoint_steps(run) in ([], [4])
    assert train.train(miniature_config, run) == 0
    assert_same_run(run, miniature_run)


def test_signals_are_caught_until_the_last_checkpoint_is_written(
    miniature, miniature_config, copied, monkeypatch
):
    """A run that is asked to stop at its last step is done."""
    handlers = []

    def close(manager, whole=checkpoint.ocp.CheckpointManager.close):
        handlers.append(signal.getsignal(signal.SIGTERM))
        whole(manager)

    shutil.rmtree(copied / "checkpoints" / str(STEPS))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.CheckpointManager, "close", close)
        assert train.train(miniature_config, copied) == 0
    assert handlers[-1] not in (signal.SIG_DFL, None)

    shutil.rmtree(copied / "checkpoints" / str(STEPS))
    at_batch(monkeypatch, 1, send_sigterm)
    assert train.train(miniature_config, copied) == 0


def test_damaged_checkpoint_is_renamed_and_the_one_before_is_used(
    miniature, miniature_config, miniature_run, copied, capsys
):
    newest = copied / "checkpoints" / str(STEPS)
    for path in (newest / "training").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert train.train(miniature_config, copied) == 0
    message = capsys.readouterr().err
    assert str(newest) in message
    assert "step 8" in message
    assert (newest.parent / f"damaged-{STEPS}").is_dir()
    assert_same_run(copied, miniature_run)


def test_run_without_a_readable_checkpoint_is_refused_and_left_as_it_is(
    miniature, miniature_config, copied
):
    steps = checkpoint.checkpoint_steps(copied)
    for step in steps:
        shutil.rmtree(copied / "checkpoints" / str(step) / "training")
    with pytest.raises(InputError, match=str(steps[-1])):
        train.train(miniature_config, copied)
    assert checkpoint.checkpoint_steps(copied) == steps
