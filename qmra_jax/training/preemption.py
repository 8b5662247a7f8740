"""Requests to stop (SIGTERM, Ctrl-C): honoured between steps, by all processes after the same step.

A preemptible VM, or a SLURM job at its time limit, gets SIGTERM and a short grace period.
`train.py` then saves and exits with status `STOPPED`.
"""

import signal
import sys
from types import FrameType
from typing import Any

import jax
import numpy as np

from qmra_jax.training.parallel import local_copy

STOPPED = 75  # exit status: saved, run the same command again to resume (sysexits.h: EX_TEMPFAIL)


class StopRequest:
    """Context manager that catches the first SIGTERM or Ctrl-C; a second has its usual effect.

    With several processes, a process that is asked to stop says so in the batch of its next step.
    The step combines these flags (metric "stop" of `train_step`), so all processes see the same
    answer after the same step. JAX's `reached_preemption_sync_point` cannot be used with Orbax:
    Orbax's writer thread reports the step that it has just written as the one the process has
    reached, and the processes may then agree on a step that is over.
    """

    requested = False  # of this process

    def __enter__(self) -> "StopRequest":
        self._is_shared = jax.process_count() > 1
        self._last: jax.Array | None = None
        self._handlers: dict[int, Any] = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def at_once(self) -> bool:
        """Whether to abandon work between steps, such as an evaluation.

        Always False with several processes, which cannot agree there and must finish it.
        """
        return self.requested and not self._is_shared

    def flags(self, examples: int) -> np.ndarray:
        """The batch entry "stop" of the next step, bool `[examples]`."""
        return np.full(examples, self.requested)

    def reached(self, metrics: dict[str, jax.Array]) -> bool:
        """Whether to stop after this step; to be called after every step by every process.

        Several processes stop one step late: the flag of a step is read when the next one is under
        way, so that no device has to wait.
        """
        if not self._is_shared:
            return self.requested
        last, self._last = self._last, metrics["stop"]
        return last is not None and bool(local_copy(last))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.requested = True
        self._restore()
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this step; send it again to exit at once", file=sys.stderr)

    def _restore(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())
