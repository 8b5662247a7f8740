"""A process that makes examples for `data_pipeline.triplets.process_stream`.

It reads the examples' numbers from a pipe shared by all workers, so that a free worker takes the
next; writes their arrays to memory shared with the parent; and reports through a pipe of its own.
It exits when either pipe loses its other end, that is, however the parent ends.

Imports are few, for a quick start: unpickling the examples imports what these need.
"""

import contextlib
import json
import logging
import mmap
import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from qmra_jax.errors import InputError

# An example's number, and the slot of its batch. Many processes can read from one pipe, as reads
# and writes of so few bytes are atomic and the pipe's pages (4096 bytes) hold whole tasks.
TASK = struct.Struct("=qq")

# A worker's reports, one line of JSON each: [MADE, number, id], [REFUSED, number, message of the
# InputError], [FAILED, number, traceback] or [WARNED, 0, message].
MADE, REFUSED, FAILED, WARNED = "made", "refused", "failed", "warned"


class _Forward(logging.Handler):
    """Forwards warnings to the parent, as every worker would print the same."""

    def __init__(self, report: Callable[[str, int, str], None]):
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report(WARNED, 0, record.getMessage())


def main(arguments: Sequence[str]) -> None:
    """Works until the parent is gone.

    Args:
      arguments: file descriptors of the memory, the tasks and the reports; then the first byte and
        the length of the pickle of (examples, layout) in the memory.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent ends its workers
        signal.signal(number, signal.SIG_IGN)
    memory_file, tasks, reports, start, length = map(int, arguments)
    memory = mmap.mmap(memory_file, 0)
    examples, layout = pickle.loads(memory[start : start + length])
    slots: dict[int, dict[str, Any]] = {}

    def report(kind: str, number: int, text: str) -> None:
        print(json.dumps([kind, number, text]), file=output, flush=True)

    # BrokenPipeError: the parent is gone. `os._exit`, as closing `output` would raise it again.
    with contextlib.suppress(BrokenPipeError):
        output = open(reports, "w", encoding="ascii")  # noqa: SIM115
        logging.basicConfig(handlers=[_Forward(report)])
        while task := os.read(tasks, TASK.size):
            number, slot = TASK.unpack(task)
            if slot not in slots:
                _, slots[slot] = layout.arrays(memory, slot)
            try:
                name, triplet = examples(number)
            except InputError as error:
                report(REFUSED, number, str(error))
            except Exception:
                report(FAILED, number, traceback.format_exc())
            else:
                for field, value in triplet._asdict().items():
                    slots[slot][field][number % layout.batch] = value
                report(MADE, number, name)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
