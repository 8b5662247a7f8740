"""One child process at a time, to which SIGTERM and Ctrl-C are passed on."""

import contextlib
import fcntl
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any


class Children:
    """Runs commands one after another; listens for signals while it is entered.

    Attributes:
      stopping: whether it was asked to end: no further command is to be begun.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._child: subprocess.Popen | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Children":
        signals = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._pass_on) for number in signals}
        return self

    def __exit__(self, *_) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __call__(self, command: Sequence[str], log: Path, *, lock: IO) -> int:
        """Runs a command to its end.

        Args:
          command: the program and its arguments.
          log: file to which what it prints is added.
          lock: an open file that the child keeps open, should this process be killed before it.

        Returns:
          its exit status; negative if a signal ended it.
        """
        with log.open("ab") as output:
            # In a session of its own: else a terminal's Ctrl-C would reach it twice, and a second
            # one means to end at once.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        if self.stopping:  # asked between the last look and now
            self._child.terminate()
        try:
            return self._child.wait()
        finally:
            self._child = None

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stopping = True
        if self._child is not None:
            self._child.send_signal(number)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[IO | None]:
    """Holds a file's lock, or gives None where another process does; it ends with its holders."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def failure(status: int, log: Path) -> str:
    """Why a command failed, by what it printed: its last error, or else its last line.

    Args:
      status: that `Children` gave.
      log: file with what it printed.

    Returns:
      "" if it did not fail.
    """
    if status == 0:
        return ""
    if status < 0:
        return f"ended by {signal.Signals(-status).name} (see {log})"
    text = log.read_bytes()[-20_000:].decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    words = (errors or lines or ["it printed nothing"])[-1]
    return f"{words} (status {status}; see {log})"
