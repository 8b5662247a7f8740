"""Child processes: what they print is kept, signals reach them, a folder has one at a time."""

import os
import signal
import sys
import threading

import pytest

from benchmarks.ablation import child


def run(code, log, **options):
    with child.Children() as children:
        return children([sys.executable, "-c", code], log, **options), children.stopping


def test_a_failure_is_told_by_the_last_error_line_or_the_last_line(tmp_path):
    log = tmp_path / "log"
    status, _ = run("print('error: no such folder'); print('bye'); raise SystemExit(2)", log)
    assert child.failure(status, log) == f"no such folder (status 2; see {log})"
    log = tmp_path / "other"
    status, _ = run("raise ValueError('far off')", log)
    assert child.failure(status, log) == f"ValueError: far off (status 1; see {log})"
    assert child.failure(0, log) == ""


def test_a_command_killed_is_told_with_its_signal(tmp_path):
    status, stopping = run("import os; os.kill(os.getpid(), 9)", tmp_path / "log")
    assert child.failure(status, tmp_path / "log").startswith("ended by SIGKILL")
    assert not stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_child_ends_in_its_own_way(tmp_path, number):
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(30)"
    )
    sent = threading.Event()

    def tick():
        if (tmp_path / "ready").exists() and not sent.is_set():
            sent.set()
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    assert run(code, tmp_path / "log", tick=tick) == (75, True)
    assert signal.getsignal(number) is before


def test_a_folder_is_locked_until_the_child_ends_even_if_its_parent_does_before(tmp_path):
    with child.only_one(tmp_path / "lock") as lock:
        assert lock is not None
        with child.only_one(tmp_path / "lock") as second:
            assert second is None
        reader, writer = os.pipe()
        code = f"import os; os.read({reader}, 1)"
        process = child.subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[lock.fileno(), reader]
        )
    with child.only_one(tmp_path / "lock") as third:
        assert third is None  # the child has it still
    os.write(writer, b"x")
    process.wait()
    with child.only_one(tmp_path / "lock") as fourth:
        assert fourth is not None
