"""A request to stop (SIGTERM, Ctrl-C): noticed between two steps, by all processes at the same one.

A machine that is taken away (a preemptible VM, a SLURM job at its time limit) sends SIGTERM and
waits a little. `train.py` then saves and ends with `STOPPED`.
"""

import signal
import sys
from types import FrameType
from typing import Any

import jax
import numpy as np

from qmra_jax.training.parallel import local_copy

STOPPED = 75  # exit status: saved, run the same command again to go on (sysexits.h: EX_TEMPFAIL)


class StopRequest:
    """Listens for SIGTERM and Ctrl-C while it is entered; a second one has its usual effect.

    With several processes, one that is asked to stop tells the others in the batch of its next
    step: the step works out whether any was asked (`train_step`'s metric "stop"), so that all come
    to the same answer at the same step. JAX's own service (`reached_preemption_sync_point`) cannot
    be used beside Orbax, whose writing thread reports the step that it has just written as the one
    that its process has reached: the processes may then agree on a step that is over.
    """

    requested = False  # of this process

    def __enter__(self) -> "StopRequest":
        self._shared = jax.process_count() > 1
        self._last: jax.Array | None = None
        signals = (signal.SIGTERM, signal.SIGINT)
        self._before: dict[int, Any] = {s: signal.signal(s, self._note) for s in signals}
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def at_once(self) -> bool:
        """Whether to drop what is no step, such as an evaluation, for a process alone decides that.

        Several cannot agree within it, and go on to its end.
        """
        return self.requested and not self._shared

    def flags(self, examples: int) -> np.ndarray:
        """What this process says in the batch of its next step: bool `[examples]`."""
        return np.full(examples, self.requested)

    def reached(self, metrics: dict[str, jax.Array]) -> bool:
        """Whether to stop after this step. To be called after every step, by every process.

        Several processes stop a step later than they know: each step's answer is looked at when the
        next one is under way, so that no device waits.

        Args:
          metrics: of the step.
        """
        if not self._shared:
            return self.requested
        last, self._last = self._last, metrics["stop"]
        return last is not None and bool(local_copy(last))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.requested = True
        self._restore()
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this step; once more to end at once", file=sys.stderr)

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
