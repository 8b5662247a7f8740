"""A profile of chosen steps: `--config.profile=100:110`, then `tensorboard --logdir WORKDIR`."""

import re
import sys
import tempfile
from pathlib import Path

import jax
from etils import epath

from qmra_jax.errors import InputError
from qmra_jax.training import distributed


class Profile:
    """Traces the steps from `first` to `last`, both included, in the first process.

    The trace goes to workdir/profile, where TensorBoard (with its profile plugin, `pip install
    xprof`) and Perfetto find it.
    """

    def __init__(self, chosen: str, workdir: epath.Path, steps: int, done: int = 0):
        """Prepares.

        Args:
          chosen: "FIRST:LAST", or "" for none.
          workdir: of the run.
          steps: of the run.
          done: steps that it does not make again, as it goes on after them.

        Raises:
          InputError: if these are no steps of the run.
        """
        self._target = workdir / "profile"
        self._folder: tempfile.TemporaryDirectory | None = None
        self._first, self._last = 0, 0
        if not chosen:
            return
        match = re.fullmatch(r"(\d+):(\d+)", chosen)
        if not match or not 1 <= int(match[1]) <= int(match[2]) <= steps:
            raise InputError(
                f"profile {chosen!r}: expected FIRST:LAST, two steps from 1 to {steps}, such as"
                " 100:110; both are included"
            )
        self._first, self._last = int(match[1]), int(match[2])
        if self._first <= done and distributed.is_first():
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
