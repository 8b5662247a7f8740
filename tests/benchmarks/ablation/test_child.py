"""Child processes: output is logged, signals are forwarded, one runs per folder."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.ablation import child


def run(code, log):
    with child.only_one(log.with_name("lock")) as lock, child.Children() as children:
        return children([sys.executable, "-c", code], log, lock=lock), children.stopping


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('error: no such folder'); print('bye'); exit(2)", "no such folder (status 2; see "),
        ("raise ValueError('far off')", "ValueError: far off (status 1; see "),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
    ],
)
def test_a_failure_is_explained_by_its_signal_last_error_or_last_line(tmp_path, code, reason):
    status, stopping = run(code, tmp_path / "log")
    assert child.failure(status, tmp_path / "log").startswith(reason)
    assert not stopping
    assert child.failure(0, tmp_path / "log") == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_forwarded_and_the_child_ends_by_itself(tmp_path, number):
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(30)"
    )

    def ask():
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    asking = threading.Thread(target=ask)
    asking.start()
    assert run(code, tmp_path / "log") == (75, True)
    asking.join()
    assert signal.getsignal(number) is before


def test_a_folder_stays_locked_until_the_child_ends(tmp_path):
    with child.only_one(tmp_path / "lock") as lock:
        with child.only_one(tmp_path / "lock") as second:
            assert second is None
        command = [sys.executable, "-c", "input()"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    with child.only_one(tmp_path / "lock") as third:
        assert third is None  # the child still holds it
    process.communicate(b"\n")
    with child.only_one(tmp_path / "lock") as fourth:
        assert fourth is not None
