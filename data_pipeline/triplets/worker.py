"""A process that makes examples for `data_pipeline.triplets.process_stream`.

It is told which by a pipe that all workers read from, so that whoever is free takes the next; puts
their arrays into memory that it shares with its parent; and says so by a pipe of its own. It ends
when either pipe has lost its other end, which is so however the parent ended.

Nothing is imported here but what starts at once: what examples need, their pickle imports.
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

# An example's number, and the slot that its batch is made in. Reads and writes of so few bytes are
# whole, though many processes read from the same pipe: it holds whole tasks alone, and 4096, the
# size of its pages, is a multiple of theirs.
TASK = struct.Struct("=qq")

# What a worker says, a line of JSON each: [MADE, number, id], [REFUSED, number, the InputError's
# text], [FAILED, number, traceback] or [WARNED, 0, text].
MADE, REFUSED, FAILED, WARNED = "made", "refused", "failed", "warned"


class _Forward(logging.Handler):
    """Leaves it to the parent to warn: of many workers, each would say the same."""

    def __init__(self, say: Callable[[str, int, str], None]):
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(WARNED, 0, record.getMessage())


def main(arguments: Sequence[str]) -> None:
    """Works until the parent is gone.

    Args:
      arguments: file descriptors of the memory, of tasks and of what to say; then where in the
        memory the pickle of (examples, layout) begins, and how long it is.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends its workers
        signal.signal(number, signal.SIG_IGN)
    memory_file, tasks, answers, start, length = map(int, arguments)
    memory = mmap.mmap(memory_file, 0)
    examples, layout = pickle.loads(memory[start : start + length])
    slots: dict[int, dict[str, Any]] = {}

    def say(kind: str, number: int, text: str) -> None:
        print(json.dumps([kind, number, text]), file=output, flush=True)

    # The suppressed error is that the parent is gone. `os._exit`, as closing would raise it anew.
    with contextlib.suppress(BrokenPipeError):
        output = open(answers, "w", encoding="ascii")  # noqa: SIM115
        logging.basicConfig(handlers=[_Forward(say)])
        while task := os.read(tasks, TASK.size):
            number, slot = TASK.unpack(task)
            if slot not in slots:
                _, slots[slot] = layout.arrays(memory, slot)
            try:
                name, triplet = examples(number)
            except InputError as error:
                say(REFUSED, number, str(error))
            except Exception:
                say(FAILED, number, traceback.format_exc())
            else:
                for field, value in triplet._asdict().items():
                    slots[slot][field][number % layout.batch] = value
                say(MADE, number, name)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
