"""Runs child processes one at a time and forwards SIGTERM and Ctrl-C to them."""

import contextlib
import fcntl
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any


class Children:
    """Runs commands one after another; a context manager that forwards signals."""

    def __init__(self) -> None:
        self.stopping = False  # whether a signal has arrived: start no further command
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> "Children":
        signals = (signal.SIGTERM, signal.SIGINT)
        self._before: dict[int, Any] = {s: signal.signal(s, self._forward) for s in signals}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, command: Sequence[str], log: Path, *, lock: IO) -> int:
        """Runs a command, its output appended to `log`; negative exit statuses are signals.

        The child keeps the open file `lock` locked should this process be killed.
        """
        with log.open("ab") as output:
            # In a session of its own: a terminal's Ctrl-C would else reach the child twice, and a
            # second one means to end at once.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        if self.stopping:  # a signal arrived while it was starting
            self._child.terminate()
        try:
            return self._child.wait()
        finally:
            self._child = None

    def _forward(self, number: int, _: FrameType | None) -> None:
        self.stopping = True
        if self._child is not None:
            self._child.send_signal(number)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[IO | None]:
    """Locks a file; yields None if another process holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def failure(status: int, log: Path) -> str:
    """Why a command failed: its signal, or the last error or line of its log; "" if it did not."""
    if status <= 0:
        return f"ended by {signal.Signals(-status).name} (see {log})" if status else ""
    lines = log.read_text(errors="replace").split("\n")  # a progress bar's line ends in \r's
    lines = [line.strip().rpartition("\r")[2] for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"{[*lines, *errors][-1] if lines else ''} (status {status}; see {log})"
