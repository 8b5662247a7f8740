"""One child process at a time, to which SIGTERM and Ctrl-C are passed on."""

import contextlib
import fcntl
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

    def __enter__(self) -> "Children":
        signals = (signal.SIGTERM, signal.SIGINT)
        self._before: dict[int, Any] = {s: signal.signal(s, self._pass_on) for s in signals}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
    """Why a command failed, by its status and the last error, or else line, in its log; or ""."""
    if status <= 0:
        return f"ended by {signal.Signals(-status).name} (see {log})" if status else ""
    lines = log.read_text(errors="replace").split("\n")  # a progress bar's line ends in \r's
    lines = [line.strip().rpartition("\r")[2] for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"{[*lines, *errors][-1] if lines else ''} (status {status}; see {log})"
