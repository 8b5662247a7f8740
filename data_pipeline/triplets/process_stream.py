"""The training stream by processes: they make examples side by side in memory that all share.

The processes are programs of their own (`data_pipeline.triplets.worker`), neither forked, which a
process that runs JAX must not be, nor in need of the parent's main module. Free workers take the
next example from one pipe, so a slow one holds up no others. No array is pickled, and none is
copied: a batch is handed over as it lies in the shared memory, whose place is used anew once
nothing refers to its arrays any more.
"""

import collections
import contextlib
import dataclasses
import json
import mmap
import os
import pickle
import selectors
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterable

import numpy as np

from data_pipeline.triplets.examples import tell_once
from data_pipeline.triplets.host_examples import HostExamples
from data_pipeline.triplets.shared_batches import Layout, open_memory
from data_pipeline.triplets.worker import FAILED, MADE, TASK, WARNED
from qmra_jax.errors import InputError

HELD = 3  # batches a consumer may hold: this step's, the last's, and one on its way to a device
# Each process has a core's worth of work in one thread.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")


@dataclasses.dataclass
class _Batch:
    """One that is being made."""

    slot: int
    names: dict[int, bytes] = dataclasses.field(default_factory=dict)  # of the examples made
    faults: dict[int, Exception] = dataclasses.field(default_factory=dict)  # of those that failed

    def is_done(self, examples: int) -> bool:
        return len(self.names) + len(self.faults) == examples


class ProcessStream:
    """Batches as `stream.open_stream` tells; its processes end when it is closed.

    They also end when nothing refers to it any more, and when this process ends, in whatever way.
    """

    def __init__(self, examples: HostExamples, *, workers: int, prefetch: int):
        """Starts the processes.

        Args:
          examples: of this host.
          workers: how many processes.
          prefetch: batches made ahead.
        """
        self._layout = Layout(examples.batch, examples.crop)
        self._ahead = prefetch + 1  # with the one that is asked for
        slots = self._ahead + HELD
        self._free = collections.deque(range(slots))
        self._batches: collections.deque[_Batch] = collections.deque()  # the next one first
        self._first = self._asked = 0  # numbers of the next batch, and of the one not yet begun
        self._tasks: collections.deque[bytes] = collections.deque()  # that the pipe had no room for
        self._workers = _Workers(workers, examples, self._layout, slots)
        # Ends the processes once: when called, when this object is gone, or at exit.
        self.close = weakref.finalize(self, self._workers.end)

    def __iter__(self) -> "ProcessStream":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises:
          InputError: of the first example of the batch that failed.
          RuntimeError: if a process has died, or failed otherwise.
        """
        if not self.close.alive:
            raise StopIteration
        try:
            return self._next()
        except BaseException:
            self.close()
            raise

    def _next(self) -> dict[str, np.ndarray]:
        examples = self._layout.batch
        while len(self._batches) < self._ahead:
            # There is a free slot: each batch handed over leaves one.
            self._batches.append(_Batch(slot := self._free.popleft()))
            first = self._asked * examples
            self._tasks.extend(TASK.pack(n, slot) for n in range(first, first + examples))
            self._asked += 1
        while True:
            while self._tasks and self._workers.give(self._tasks[0]):
                self._tasks.popleft()
            if self._batches[0].is_done(examples):
                break
            for answer in self._workers.answers():
                self._note(*answer)
        batch = self._batches.popleft()
        self._first += 1
        if batch.faults:
            raise batch.faults[min(batch.faults)]
        return self._hand_over(batch)

    def _note(self, kind: str, number: int, text: str) -> None:
        if kind == WARNED:
            tell_once(text)
            return
        index, i = divmod(number, self._layout.batch)
        batch = self._batches[index - self._first]
        if kind == MADE:
            batch.names[i] = text.encode(errors="surrogateescape")
        elif kind == FAILED:
            batch.faults[i] = RuntimeError(f"a process that makes examples failed:\n{text}")
        else:
            batch.faults[i] = InputError(text)

    def _hand_over(self, batch: _Batch) -> dict[str, np.ndarray]:
        whole, arrays = self._layout.arrays(self._workers.memory, batch.slot)
        if self._free:  # the slot is free once no array refers to its memory
            weakref.finalize(whole, self._free.append, batch.slot).atexit = False
        else:
            arrays = {name: array.copy() for name, array in arrays.items()}
            self._free.append(batch.slot)
        names = [name for _, name in sorted(batch.names.items())]
        return {**arrays, "id": np.array(names, object)}


class _Workers:
    """The processes, the memory that they share, and the pipes to and from them."""

    def __init__(self, count: int, examples: HostExamples, layout: Layout, slots: int):
        """Starts them.

        Args:
          count: how many.
          examples: that they make.
          layout: of the memory.
          slots: batches that the memory holds.
        """
        setup = pickle.dumps((examples, layout))
        start = slots * layout.slot_bytes
        self._processes: list[subprocess.Popen] = []
        self._rests: dict[int, bytes] = {}  # of a line not yet whole, by its pipe
        self._selector = selectors.DefaultSelector()
        tasks, self._tasks = os.pipe()
        os.set_blocking(self._tasks, False)
        memory = open_memory(start + len(setup))
        self.memory = mmap.mmap(memory, 0)
        self.memory[start:] = setup
        try:
            for _ in range(count):
                self._start(memory, tasks, start, len(setup))
        except BaseException:
            self.end()
            raise
        finally:  # the processes have them now, and they alone
            os.close(memory)
            os.close(tasks)

    def _start(self, memory: int, tasks: int, start: int, length: int) -> None:
        said, say = os.pipe()
        path = [os.path.abspath(folder) for folder in sys.path]
        arguments = map(str, (memory, tasks, say, start, length))
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "data_pipeline.triplets.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(memory, tasks, say),
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,  # a terminal's Ctrl-C is for the parent alone
            )
        finally:
            os.close(say)
        self._processes.append(process)
        self._selector.register(said, selectors.EVENT_READ, process)

    def give(self, task: bytes) -> bool:
        """Gives a task to whichever is free first; False if too many wait already."""
        try:
            os.write(self._tasks, task)
        except BlockingIOError:
            return False
        return True

    def answers(self) -> Iterable[tuple[str, int, str]]:
        """What they said since, or say next: kind, example's number, text.

        Raises:
          RuntimeError: if one has died.
        """
        for key, _ in self._selector.select():
            if not (data := os.read(key.fd, 2**16)):
                raise RuntimeError(_death(key.data))
            *lines, self._rests[key.fd] = (self._rests.get(key.fd, b"") + data).split(b"\n")
            yield from map(json.loads, lines)

    def end(self) -> None:
        """Ends them at once: they write nothing but the shared memory."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a dead disk
                process.wait(5)
        del self.memory  # which lasts as long as arrays that were handed over
        os.close(self._tasks)
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()


def _death(process: subprocess.Popen) -> str:
    """How a process ended that should not have."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    how = f"with status {process.returncode}"
    if process.returncode is not None and process.returncode < 0:
        how = f"by {signal.Signals(-process.returncode).name}"
    return (
        f"a process that makes examples (pid {process.pid}) was ended {how}: if the machine ran out"
        " of memory, lower data.workers or data.prefetch; run the same command to go on"
    )
