"""Speed, memory use, progress bar and profile of a run."""

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
    """Measures triplets per second and the share of time spent waiting for data.

    Time spent in `pause` counts towards neither.
    """

    def __init__(self, batch_size: int):
        """Starts the clock; `batch_size` is the number of triplets per step, over all processes."""
        self._batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        """Discards all counts."""
        self._since, self._steps, self._waited = time.perf_counter(), 0, 0.0

    def next(self, batches: Iterator[Batch]) -> Batch:
        """Returns the next batch; the time it takes counts as waiting for data."""
        asked = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - asked
        return batch

    def count(self) -> None:
        """Counts one step."""
        self._steps += 1

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stops the clock within a `with` block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Metrics since the last reading; empty if no step was counted."""
        seconds, steps, waited = time.perf_counter() - self._since, self._steps, self._waited
        self.restart()
        if not steps:
            return {}
        return {
            "triplets_per_second": steps * self._batch_size / seconds,
            "data_wait_share": waited / seconds,
        }


def memory() -> dict[str, float]:
    """Peak memory of this process in GiB, on the host and, if the backend reports it, a device."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    metrics = {"host_memory_gib": host / GIB}
    stats: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        metrics["device_memory_gib"] = stats["peak_bytes_in_use"] / GIB
    return metrics


class StepBar(tqdm):
    """A progress bar on a terminal, else a line per message; silent except in the first process."""

    def __init__(self, steps: int, done: int):
        """Shows `done` of `steps` steps."""
        super().__init__(
            total=steps,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            disable=None if distributed.is_first() else True,  # None: disabled without a terminal
        )

    def tell(self, step: int, text: str) -> None:
        """Shows a text about a step."""
        self.set_postfix_str(text)
        if self.disable and distributed.is_first():
            print(f"step {step}/{self.total}: {text}", flush=True)


def summary(metrics: dict[str, float]) -> str:
    """A step's metrics in a few words, for the progress bar."""
    answer = next(name for name in ("J_refined", "J_mask") if name in metrics)
    text = f"loss {metrics['loss']:.3f}, J {metrics[answer]:.3f}"
    if "triplets_per_second" in metrics:
        text += f", {metrics['triplets_per_second']:.1f} triplets/s"
    return text


class Profile:
    """Traces the steps FIRST to LAST of `config.profile`, inclusive, in the first process.

    The trace is written to WORKDIR/profile, for TensorBoard (with its profile plugin, `pip install
    xprof`: `tensorboard --logdir WORKDIR`) and Perfetto.
    """

    def __init__(self, steps: str, workdir: epath.Path, done: int = 0):
        """Prepares.

        Args:
          steps: "FIRST:LAST", or "" for no trace.
          workdir: workdir of the run.
          done: step that the run resumes after.
        """
        self._target = workdir / "profile"
        self._folder: tempfile.TemporaryDirectory | None = None
        self._first, self._last = map(int, steps.split(":")) if steps else (0, 0)
        if steps and self._first <= done and distributed.is_first():
            print(
                f"profile {steps}: the run resumes after step {done}, so nothing is traced; choose"
                " later steps",
                file=sys.stderr,
            )

    def before(self, step: int) -> None:
        """Starts the trace if `step` is the first to trace; to be called before each step."""
        if step == self._first and distributed.is_first():
            self._folder = tempfile.TemporaryDirectory()
            jax.profiler.start_trace(self._folder.name)

    def after(self, step: int, result) -> None:
        """Ends the trace if `step` is the last to trace; to be called with each step's result."""
        if step == self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a running trace and copies it to the workdir."""
        if self._folder is None:
            return
        jax.profiler.stop_trace()
        with self._folder as folder:  # the profiler cannot write to a bucket itself
            for file in filter(Path.is_file, Path(folder).rglob("*")):
                target = self._target / str(file.relative_to(folder))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        self._folder = None
