"""Times programs against each other: each in its own process, taking turns.

Each process has its own threads, memory and compiled code, and sleeps while another works, so that
they do not disturb each other, and a busy machine slows all of them down alike.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from qmra_jax.errors import InputError
from qmra_jax.runtime.host_memory import keep_freed_memory


class Program(Protocol):
    """What a contender's process runs."""

    facts: dict[str, Any]  # known before the first turn: version, device, platform "cpu" or "gpu"

    def step(self) -> float:
        """Does the work once, waits for it, and returns a number to compare, such as the loss."""

    def matrix_product(self, n: int) -> Callable[[], Any]:
        """A function that multiplies two n x n float32 matrices and waits for the product."""

    def peak_memory(self) -> int:
        """Peak accelerator memory in bytes; 0 on a CPU."""


class Turn(NamedTuple):
    """One turn of a contender."""

    seconds: list[float]  # of each step
    cpu_seconds: list[float]  # of each step, over all threads of the process
    values: list[float]  # what each step returned
    matrix_flops: float  # FLOP/s of a large matrix product right afterwards


class Speed(NamedTuple):
    """A contender's turns in short; see `Contender.speed`."""

    seconds: float  # median of all steps
    cpu_seconds: float  # likewise
    ratio: float  # seconds relative to ours: median of the rounds' ratios
    ratios: str  # the rounds' smallest and largest
    memory: float  # peak in GiB


@dataclass
class Contender:
    """A program in its process, where `prepare(*arguments)` makes it.

    Its facts are the program's; `start_seconds` and `first_value` of the first step, which
    compiles; and after `stop`, `peak_rss` and `peak_device_memory` in bytes.
    """

    name: str
    prepare: Callable[..., Program]
    arguments: tuple  # picklable
    facts: dict[str, Any] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    failure: str = ""  # why it could not start, if it was allowed to fail

    def start(self, *, may_fail: bool = False) -> None:
        """Starts the process and waits for the first step.

        Raises:
          InputError: if it fails and may not.
        """
        spawn = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, mp_context=spawn)
        try:
            self.facts = self._call(_start, self.prepare, self.arguments)
        except InputError as error:
            if not may_fail:
                raise
            self.failure = str(error)

    def turn(self, steps: int) -> None:
        """Does `steps` steps in a row."""
        self.turns.append(self._call(_turn, steps))

    def stop(self) -> None:
        """Ends the process and adds its peak memory to `facts`."""
        self.facts |= self._call(_peak_memory)
        self._process.shutdown()

    def speed(self, ours: "Contender") -> Speed:
        """The median step, also relative to ours, and the peak memory."""
        # By rounds, so that what slowed a round down is in both.
        ratios = [
            sum(theirs.seconds) / sum(reference.seconds)
            for reference, theirs in zip(ours.turns, self.turns, strict=True)
        ]
        on_gpu = self.facts["platform"] == "gpu"
        return Speed(
            statistics.median(s for turn in self.turns for s in turn.seconds),
            statistics.median(s for turn in self.turns for s in turn.cpu_seconds),
            statistics.median(ratios),
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            self.facts["peak_device_memory" if on_gpu else "peak_rss"] / 2**30,
        )

    def _call(self, function: Callable, *arguments: Any) -> Any:
        try:
            return self._process.submit(function, *arguments).result()
        except Exception as error:  # any, as it comes from the program
            self._process.shutdown()
            raise InputError(f"{self.name} failed: {type(error).__name__}: {error}") from error


def take_turns(contenders: Sequence[Contender], rounds: int, steps: int) -> None:
    """Gives each contender a turn of `steps` steps per round, then stops all.

    Every other round runs backwards.
    """
    for k in range(rounds):
        for contender in contenders if k % 2 == 0 else contenders[::-1]:
            contender.turn(steps)
    for contender in contenders:
        contender.stop()


def check_platforms(contenders: Sequence[Contender]) -> None:
    """Raises `InputError` unless all run on one kind of device."""
    ours, *others = contenders
    for other in others:
        if other.facts["platform"] != ours.facts["platform"]:
            raise InputError(
                f"{other.name} runs on the {other.facts['platform']}, JAX on the"
                f" {ours.facts['platform']}: give --device=cpu, or install both for the GPU"
            )


def matrix_peak(contenders: Sequence[Contender]) -> float:
    """FLOP/s of the fastest large matrix product of all turns."""
    return max(turn.matrix_flops for contender in contenders for turn in contender.turns)


_program: Program  # of a contender's process


def _start(prepare: Callable[..., Program], arguments: tuple) -> dict[str, Any]:
    global _program
    keep_freed_memory()  # as train.py does; it helps PyTorch too
    _program = prepare(*arguments)
    start = time.perf_counter()
    first = _program.step()
    return _program.facts | {"start_seconds": time.perf_counter() - start, "first_value": first}


def _turn(steps: int) -> Turn:
    seconds, cpu_seconds, values = [], [], []
    for _ in range(steps):
        wall, cpu = time.perf_counter(), time.process_time()
        values.append(_program.step())
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
    return Turn(seconds, cpu_seconds, values, _matrix_flops())


def _peak_memory() -> dict[str, int]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_rss": peak, "peak_device_memory": _program.peak_memory()}


def _matrix_flops() -> float:
    n = 8192 if _program.facts["platform"] == "gpu" else 2048
    multiply = _program.matrix_product(n)
    multiply()  # compiles
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)
