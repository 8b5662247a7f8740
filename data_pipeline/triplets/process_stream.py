"""The training stream with processes, which make examples in parallel in shared memory.

The processes are programs of their own (`data_pipeline.triplets.worker`): not forked, which a
process that runs JAX must not be, and independent of the parent's main module. Free workers take
the next example from one pipe, so a slow example delays no others. No array is pickled or copied: a
batch is returned as it lies in the shared memory, whose slot is reused once nothing refers to its
arrays any more.
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

from data_pipeline.triplets.examples import HostExamples, warn_once
from data_pipeline.triplets.shared_batches import Layout, open_memory
from data_pipeline.triplets.worker import FAILED, MADE, TASK, WARNED
from qmra_jax.errors import InputError

HELD = 3  # batches a consumer may hold: this step's, the last's, and one on its way to a device
# Each process is single-threaded.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")


@dataclasses.dataclass
class _Batch:
    """A batch in progress: its slot, and the names and errors of its examples so far."""

    slot: int
    names: dict[int, bytes] = dataclasses.field(default_factory=dict)
    errors: dict[int, Exception] = dataclasses.field(default_factory=dict)

    def is_done(self, examples: int) -> bool:
        return len(self.names) + len(self.errors) == examples


class ProcessStream:
    """Batches as `stream.open_stream` describes them.

    The processes end when it is closed or garbage-collected, and however this process ends.
    """

    def __init__(self, examples: HostExamples, *, workers: int, prefetch: int):
        """Starts the processes.

        Args:
          examples: of this host.
          workers: number of processes.
          prefetch: number of batches made ahead.
        """
        self._layout = Layout(examples.batch, examples.crop)
        self._ahead = prefetch + 1  # with the one that is requested
        slots = self._ahead + HELD
        self._free = collections.deque(range(slots))
        self._batches: collections.deque[_Batch] = collections.deque()  # the next one first
        self._first = 0  # number of the next batch
        self._begun = 0  # number of batches whose tasks were created
        self._tasks: collections.deque[bytes] = collections.deque()  # waiting for the pipe
        self._workers = _Workers(workers, examples, self._layout, slots)
        # Ends the processes once: when called, at garbage collection, or at exit.
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
            # A slot is free, since every returned batch leaves one.
            self._batches.append(_Batch(slot := self._free.popleft()))
            first = self._begun * examples
            self._tasks.extend(TASK.pack(n, slot) for n in range(first, first + examples))
            self._begun += 1
        while True:
            while self._tasks and self._workers.submit(self._tasks[0]):
                self._tasks.popleft()
            if self._batches[0].is_done(examples):
                break
            for report in self._workers.reports():
                self._note(*report)
        batch = self._batches.popleft()
        self._first += 1
        if batch.errors:
            raise batch.errors[min(batch.errors)]
        return self._arrays(batch)

    def _note(self, kind: str, number: int, text: str) -> None:
        if kind == WARNED:
            warn_once(text)
            return
        index, i = divmod(number, self._layout.batch)
        batch = self._batches[index - self._first]
        if kind == MADE:
            batch.names[i] = text.encode(errors="surrogateescape")
        elif kind == FAILED:
            batch.errors[i] = RuntimeError(f"a process that makes examples failed:\n{text}")
        else:
            batch.errors[i] = InputError(text)

    def _arrays(self, batch: _Batch) -> dict[str, np.ndarray]:
        whole, arrays = self._layout.arrays(self._workers.memory, batch.slot)
        if self._free:  # the slot becomes free once no array refers to its memory
            weakref.finalize(whole, self._free.append, batch.slot).atexit = False
        else:
            arrays = {name: array.copy() for name, array in arrays.items()}
            self._free.append(batch.slot)
        names = [name for _, name in sorted(batch.names.items())]
        return {**arrays, "id": np.array(names, object)}


class _Workers:
    """The processes, their shared memory of `slots` batches, and the pipes to and from them."""

    def __init__(self, count: int, examples: HostExamples, layout: Layout, slots: int):
        setup = pickle.dumps((examples, layout))
        start = slots * layout.slot_bytes
        self._processes: list[subprocess.Popen] = []
        self._partial: dict[int, bytes] = {}  # an unfinished line, by its pipe
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
        finally:  # the processes keep theirs
            os.close(memory)
            os.close(tasks)

    def _start(self, memory: int, tasks: int, start: int, length: int) -> None:
        reports, report = os.pipe()
        path = [os.path.abspath(folder) for folder in sys.path]
        arguments = map(str, (memory, tasks, report, start, length))
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "data_pipeline.triplets.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(memory, tasks, report),
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,  # a terminal's Ctrl-C is for the parent alone
            )
        finally:
            os.close(report)
        self._processes.append(process)
        self._selector.register(reports, selectors.EVENT_READ, process)

    def submit(self, task: bytes) -> bool:
        """Passes a task to the first free worker; False if the pipe is full."""
        try:
            os.write(self._tasks, task)
        except BlockingIOError:
            return False
        return True

    def reports(self) -> Iterable[tuple[str, int, str]]:
        """Waits for reports: kind, number of the example, text.

        Raises:
          RuntimeError: if a process has died.
        """
        for key, _ in self._selector.select():
            if not (data := os.read(key.fd, 2**16)):
                raise RuntimeError(_death(key.data))
            *lines, self._partial[key.fd] = (self._partial.get(key.fd, b"") + data).split(b"\n")
            yield from map(json.loads, lines)

    def end(self) -> None:
        """Kills the processes, which write nothing but the shared memory."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck on a dead disk
                process.wait(5)
        del self.memory  # stays mapped while arrays that were returned refer to it
        os.close(self._tasks)
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()


def _death(process: subprocess.Popen) -> str:
    """The message that a process died."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    how = f"with status {process.returncode}"
    if process.returncode is not None and process.returncode < 0:
        how = f"by {signal.Signals(-process.returncode).name}"
    return (
        f"a process that makes examples (pid {process.pid}) was ended {how}: if the machine ran out"
        " of memory, lower data.workers or data.prefetch; the same command resumes the run"
    )
