"""A request to stop (SIGTERM, Ctrl-C): noticed between two steps, by all processes at the same one.

A machine that is taken away (a preemptible VM, a SLURM job at its time limit) sends SIGTERM and
waits a little. `train.py` then saves and ends with `STOPPED`.
"""

import signal
import sys
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

STOPPED = 75  # exit status: saved, run the same command again to go on (sysexits.h: EX_TEMPFAIL)


class StopRequest:
    """Listens for SIGTERM and Ctrl-C while it is entered; a second one has its usual effect.

    With several processes JAX listens, for SIGTERM alone: one sent to any of them stops all.
    """

    requested = False  # noticed by this process; never where several listen together

    def __enter__(self) -> "StopRequest":
        self._shared = jax.process_count() > 1
        signals = () if self._shared else (signal.SIGTERM, signal.SIGINT)
        self._before: dict[int, Any] = {s: signal.signal(s, self._note) for s in signals}
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def reached(self, step: int) -> bool:
        """Whether to stop after this step. To be called after every step, by every process."""
        if self._shared:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.requested = True
        self._restore()
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this step; once more to end at once", file=sys.stderr)

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
