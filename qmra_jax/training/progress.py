"""How fast a run goes and what it takes: triplets a second, waiting for data, memory, a trace."""

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
from etils import epath
from tqdm import tqdm

from qmra_jax.training import distributed

Batch = TypeVar("Batch")
GIB = 2**30


class StepClock:
    """Counts steps and seconds between two readings; what is paused counts as neither."""

    def __init__(self, batch_size: int):
        """Starts.

        Args:
          batch_size: triplets a step, over all processes.
        """
        self._batch_size = batch_size
        self._waited = 0.0
        self.restart()

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; the time until it is there counts as waiting for data."""
        asked = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - asked
        return batch

    def count(self) -> None:
        """A step was done."""
        self._steps += 1

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is no training: an evaluation, a picture, the step that compiles."""
        began, waited = time.perf_counter(), self._waited
        try:
            yield
        finally:
            self._since += time.perf_counter() - began
            self._waited = waited

    def read(self) -> dict[str, float]:
        """Figures since the last reading; without the rates where no step was counted since."""
        seconds = time.perf_counter() - self._since
        rates = {
            "triplets_per_second": self._steps * self._batch_size / seconds,
            "data_wait_share": self._waited / seconds,
        }
        counted = self._steps
        self.restart()
        return rates if counted else {}

    def restart(self) -> None:
        """Forgets what was counted so far."""
        self._since, self._steps, self._waited = time.perf_counter(), 0, 0.0


def memory() -> dict[str, float]:
    """The most memory that this process has held so far, in GiB: on the host, and on a device.

    The device's is left out where the backend does not tell (a CPU).
    """
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    figures = {"host_memory_gib": host / GIB}
    stats: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        figures["device_memory_gib"] = stats["peak_bytes_in_use"] / GIB
    return figures


class StepBar:
    """The steps done: a bar on a terminal, else a line each time that something is told.

    In processes but the first it shows nothing.
    """

    def __init__(self, steps: int, done: int):
        """Starts at the step `done` of `steps`."""
        self._is_first = distributed.is_first()
        self._bar = tqdm(
            total=steps,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            disable=None if self._is_first else True,  # None: where there is no terminal
        )

    def update(self) -> None:
        """A step was done."""
        self._bar.update()

    def note(self, text: str) -> None:
        """Shows what goes on beside the bar; nothing without one."""
        self._bar.set_postfix_str(text)

    def tell(self, step: int, text: str) -> None:
        """Shows figures of a step."""
        self.note(text)
        if self._bar.disable and self._is_first:
            print(f"step {step}/{self._bar.total}: {text}", flush=True)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


def summary(metrics: dict[str, float]) -> str:
    """A step's figures in a few words, for the progress bar."""
    answer = next(name for name in ("J_refined", "J_mask") if name in metrics)
    text = f"loss {metrics['loss']:.3f}, J {metrics[answer]:.3f}"
    if "triplets_per_second" in metrics:
        text += f", {metrics['triplets_per_second']:.1f} triplets/s"
    return text


class Profile:
    """Traces the steps from `first` to `last`, both included, in the first process.

    `--config.profile=100:110`, then `tensorboard --logdir WORKDIR`: the trace goes to
    workdir/profile, where TensorBoard (with its profile plugin, `pip install xprof`) and Perfetto
    find it.
    """

    def __init__(self, chosen: str, workdir: epath.Path, done: int = 0):
        """Prepares.

        Args:
          chosen: "FIRST:LAST", or "" for none.
          workdir: of the run.
          done: steps that it does not make again, as it goes on after them.
        """
        self._target = workdir / "profile"
        self._folder: tempfile.TemporaryDirectory | None = None
        self._first, self._last = map(int, chosen.split(":")) if chosen else (0, 0)
        if chosen and self._first <= done and distributed.is_first():
            print(
                f"profile {chosen}: the run goes on after step {done}, so there will be no trace;"
                " name later steps for one",
                file=sys.stderr,
            )

    def before(self, step: int) -> None:
        """To be called before each step: starts if it is the one to start with."""
        if step == self._first and distributed.is_first():
            self._folder = tempfile.TemporaryDirectory()
            jax.profiler.start_trace(self._folder.name)

    def after(self, step: int, result) -> None:
        """To be called after each step, with what it computed: ends after the last one chosen."""
        if step == self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a trace that is running, and brings it to the workdir."""
        if self._folder is None:
            return
        jax.profiler.stop_trace()
        with self._folder as folder:  # the profiler itself writes to no bucket
            for file in filter(Path.is_file, Path(folder).rglob("*")):
                target = self._target / str(file.relative_to(folder))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        self._folder = None
