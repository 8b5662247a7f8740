"""Times our train step against the PyTorch twin's, taking turns in one run.

    python -m benchmarks.training                          # small model, 192x192, batch 8
    python -m benchmarks.training --compile --json=FILE    # torch.compile as a further contender
    python -m benchmarks.training --config=paper --crop=384 --batch=16 --dtype=bfloat16   # a GPU

Each program runs in a process of its own (see `turns.py`), with the same weights and triplets; if
their losses differ, the result is an error.
"""

import argparse
import functools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import Table, check_least, machine, run_benchmark
from benchmarks.turns import Contender, Program, check_platforms, matrix_peak, take_turns
from benchmarks.workload import CONFIGS, Workload, add_options
from qmra_jax.errors import InputError

# Largest relative difference of the losses that rounding explains.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


def compare(
    workload: Workload, *, compiled: bool, rounds: int, steps: int
) -> tuple[list[Contender], dict[str, str]]:
    """Starts our program and the twin's, times them, and checks that their losses agree.

    Returns:
      The contenders: ours, which loads its compiled step, as train.py does from its second start
      on; ours as at the first start, which compiles it; the twin's; and torch.compile's. If the
      latter failed or computes something else, it is left out, and the reason is returned by name.

    Raises:
      InputError: if another program fails, they run on different devices, or their losses differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        state, cache = Path(folder) / "state.safetensors", Path(folder) / "compiled"
        first = Contender("JAX, ours, first run", prepare_jax, (workload, state, cache))
        ours = Contender("JAX, ours", prepare_jax, (workload, state, cache))
        twin = Contender("PyTorch", prepare_torch, (workload, state, False))
        third = Contender("torch.compile", prepare_torch, (workload, state, True))
        for contender in (first, ours, twin):  # in this order: ours loads what the first compiled
            contender.start()
        if compiled:
            third.start(may_fail=True)
    contenders = [ours, first, twin, *([third] if compiled and not third.failure else [])]
    check_platforms(contenders)
    take_turns(contenders, rounds, steps)
    for other in contenders[1:]:
        try:
            check_same(workload, ours, other)
        except InputError as error:
            if other is not third:
                raise
            third.failure = str(error)
            contenders.remove(third)
    return contenders, {third.name: third.failure} if third.failure else {}


def prepare_jax(workload: Workload, state_file: Path, cache: Path) -> Program:
    """Our program; only its process imports JAX."""
    from benchmarks.jax_training import JaxProgram

    return JaxProgram(workload, state_file, cache)


def prepare_torch(workload: Workload, state_file: Path, compiled: bool) -> Program:
    """The twin's program; only its process imports PyTorch."""
    from benchmarks.torch_training import TorchProgram

    return TorchProgram(workload, state_file, compiled)


def check_same(workload: Workload, ours: Contender, other: Contender) -> None:
    """Raises `InputError` unless the first and the last losses agree."""
    for step, its_loss, our_loss in (
        ("first", other.facts["first_value"], ours.facts["first_value"]),
        ("last", other.turns[-1].values[-1], ours.turns[-1].values[-1]),
    ):
        if not abs(its_loss / our_loss - 1) <= TOLERANCE[workload.dtype]:
            raise InputError(
                f"{other.name}: loss {its_loss:.6f} after its {step} step, {ours.name}:"
                f" {our_loss:.6f}: they cannot be compared"
            )


def tables(
    workload: Workload, contenders: Sequence[Contender], failures: dict[str, str]
) -> list[Table]:
    """A row per program, and the seconds of every round."""
    from benchmarks.torch_training import count_flops

    config = workload.training_config()
    flops, peak = count_flops(workload), matrix_peak(contenders)
    rows = []
    for program in contenders:
        speed = program.speed(contenders[0])
        rows.append(
            {
                "program": f"{program.name} ({program.facts['version']})",
                "triplets/s": config.batch_size / speed.seconds,
                "s a step": speed.seconds,
                "CPU s a step": speed.cpu_seconds,
                "our speed / its": speed.ratio,
                "single rounds": speed.ratios,
                "first step, s": program.facts["start_seconds"],
                "peak memory, GiB": speed.memory,
                "GFLOP/s": flops / speed.seconds / 1e9,
                "% of matrix peak": 100 * flops / speed.seconds / peak,
                "last loss": f"{program.turns[-1].values[-1]:.5f}",
            }
        )
    turns, size = contenders[0].turns, config.data.crop
    note = [
        f"Medians of {len(turns)} rounds of {len(turns[0].seconds)} steps, the programs in turn."
        f" A step is {flops / 1e9:.0f} GFLOP by the definition of its convolutions; a large float32"
        f" matrix product reaches {peak / 1e9:.0f} GFLOP/s here."
    ]
    note += [f"{name} gave no result: {reason}" for name, reason in failures.items()]
    title = (
        f"Train step of the {workload.config} model, {size}x{size}, batch {config.batch_size},"
        f" {workload.dtype}"
    )
    rounds = [
        {"round": k + 1, **{c.name: statistics.mean(c.turns[k].seconds) for c in contenders}}
        for k in range(len(turns))
    ]
    return [
        Table.of(title, rows, " ".join(note)),
        Table.of("Every round, seconds a step", rounds),
    ]


def _options(add) -> None:
    add("--config", choices=tuple(CONFIGS), default="small", help="default: %(default)s")
    add("--crop", type=int, default=0, help="side of the images (default: the config's)")
    add("--batch", type=int, default=0, help="triplets per step (default: the config's)")
    add("--devices", type=int, default=0, help="of JAX on a CPU (default: the config's)")
    add_options(add)
    add("--rounds", type=int, default=5, help="turns of each program (default: %(default)s)")
    add("--steps", type=int, default=2, help="steps per turn (default: %(default)s)")


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Times the programs: common facts, and the tables."""
    check_least(args, crop=0, batch=0, devices=0, rounds=1, steps=1)
    if args.crop % 16:
        raise InputError(f"--crop={args.crop}: expected a multiple of 16")
    setup = (args.config, args.dtype, args.tf32, args.device)
    workload = Workload(*setup, args.crop, args.batch, args.devices)
    contenders, failures = compare(
        workload, compiled=args.compile, rounds=args.rounds, steps=args.steps
    )
    ours, _, twin, *_ = (contender.facts for contender in contenders)
    about = {
        "machine": machine() if ours["platform"] == "cpu" else f"{machine()}, {ours['device']}",
        "JAX devices": str(ours["devices"]),
        "PyTorch threads": str(twin["threads"]),
    }
    return about, tables(workload, contenders, failures)


main = functools.partial(run_benchmark, "training", __doc__, _options, measure)

if __name__ == "__main__":
    main()
