"""How fast a run goes and what it takes: triplets a second, waiting for data, memory."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import jax

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


def summary(metrics: dict[str, float]) -> str:
    """A step's figures in a few words, for the progress bar."""
    answer = next(name for name in ("J_refined", "J_mask") if name in metrics)
    text = f"loss {metrics['loss']:.3f}, J {metrics[answer]:.3f}"
    if "triplets_per_second" in metrics:
        text += f", {metrics['triplets_per_second']:.1f} triplets/s"
    return text
