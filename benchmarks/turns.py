"""Programs that are timed against each other: each in a process of its own, taking turns.

A process keeps its threads, memory and compiled code to itself and sleeps while another works, so
that none disturbs the others, and a machine that is busy for a while is busy for all of them.
"""

import multiprocessing
import resource
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

from qmra_jax.errors import InputError
from qmra_jax.runtime.host_memory import keep_freed_memory


class Program(Protocol):
    """What a contender's process runs."""

    facts: dict[str, Any]  # what it has to tell before the first turn: device, versions, ...

    def step(self) -> float:
        """Does the work once, to its very end, and returns a number to compare: the loss."""

    def matrix_product(self) -> float:
        """FLOP a second of one large matrix product."""

    def peak_memory(self) -> int:
        """Bytes of accelerator memory at the worst moment; 0 where there is none."""


class Failed(InputError):
    """A program could not be made, or did not survive a step; the last line says why."""


class Turn(NamedTuple):
    """One turn of a contender.

    Attributes:
      seconds: of each step.
      cpu_seconds: of each step, over all threads of its process.
      values: what each step returned.
      matrix_flops: FLOP a second of a large matrix product, right after.
    """

    seconds: list[float]
    cpu_seconds: list[float]
    values: list[float]
    matrix_flops: float


@dataclass
class Contender:
    """A program in its process.

    Attributes:
      name: its column.
      prepare: `prepare(*arguments)` makes the program, in its process; its module is imported
        there too, and so should import no other program's framework.
      arguments: of `prepare`; picklable.
      facts: what the program told, and `start_seconds`, of the first step, which compiles.
      turns: so far.
    """

    name: str
    prepare: Callable[..., Program]
    arguments: tuple
    facts: dict[str, Any] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    def start(self) -> None:
        """Starts the process and waits for the first step.

        Raises:
          Failed: if it fails.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self.prepare, self.arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        self.facts = self._receive()

    def turn(self, steps: int) -> None:
        """`steps` steps in a row."""
        self._connection.send(steps)
        self.turns.append(self._receive())

    def stop(self) -> None:
        """Ends the process; its peak memory in bytes is then in `facts`."""
        self._connection.send(0)
        self.facts |= self._receive()
        self._process.join()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise Failed(f"{self.name}: its process died (out of memory?)") from None
        if isinstance(answer, str):
            raise Failed(f"{self.name} failed:\n{answer}")
        return answer


def take_turns(contenders: Sequence[Contender], rounds: int, steps: int) -> None:
    """Every contender has a turn of `steps` steps a round; every other round runs backwards."""
    for k in range(rounds):
        for contender in contenders if k % 2 == 0 else contenders[::-1]:
            contender.turn(steps)


def _serve(connection: Connection, prepare: Callable[..., Program], arguments: tuple) -> None:
    try:
        keep_freed_memory()  # as train.py does; PyTorch gains by it too
        program = prepare(*arguments)
        start = time.perf_counter()
        first = program.step()
        facts = {"start_seconds": time.perf_counter() - start, "first_value": first}
        connection.send(program.facts | facts)
        while steps := connection.recv():
            connection.send(_turn(program, steps))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        connection.send({"peak_rss": peak, "peak_device_memory": program.peak_memory()})
    except Exception:
        connection.send(traceback.format_exc(limit=-6))


def _turn(program: Program, steps: int) -> Turn:
    seconds, cpu_seconds, values = [], [], []
    for _ in range(steps):
        wall, cpu = time.perf_counter(), time.process_time()
        values.append(program.step())
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
    return Turn(seconds, cpu_seconds, values, program.matrix_product())
