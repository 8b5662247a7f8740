"""Times our train step against the PyTorch twin's, taking turns in one run.

    python -m benchmarks.training                          # small model, 192x192, batch 8
    python -m benchmarks.training --compile --json=FILE    # torch.compile as a further contender
    python -m benchmarks.training --config=paper --crop=384 --batch=16 --dtype=bfloat16   # a GPU

Each program runs in a process of its own (see `turns.py`), from the same weights, on the same
triplets, to the same losses; where the losses part, there is no result but an error.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import Table, check_least, machine, run_benchmark
from benchmarks.turns import Contender, Failed, Program, take_turns
from benchmarks.workload import CONFIGS, Workload
from qmra_jax.errors import InputError

# Largest relative difference of the losses, first and last: of rounding, and of nothing else.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


def compare(
    workload: Workload, *, compiled: bool, rounds: int, steps: int
) -> tuple[list[Contender], dict[str, str]]:
    """Starts ours and the twin's programs, times them, and checks that they computed the same.

    Returns:
      The contenders: ours, which loads its compiled step, as train.py does from its second start
      on; ours as at the first start, which compiles it; the twin's. And why torch.compile is not
      among them, where it failed: for want of a C++ compiler, or because what it compiled computes
      something else.

    Raises:
      InputError: if another program fails, or they run on different devices, or their losses
        differ.
    """
    failures = {}
    with tempfile.TemporaryDirectory() as folder:
        state, cache = Path(folder) / "state.safetensors", Path(folder) / "compiled"
        first = Contender("JAX, ours, first run", prepare_jax, (workload, state, cache))
        ours = Contender("JAX, ours", prepare_jax, (workload, state, cache))
        twin = Contender("PyTorch", prepare_torch, (workload, state, False))
        for contender in (first, ours, twin):  # one after the other: what one compiles, two loads
            contender.start()
        contenders = [ours, first, twin]
        check_devices(contenders)
        if compiled:
            third = Contender("torch.compile", prepare_torch, (workload, state, True))
            try:
                third.start()
                contenders.append(third)
            except Failed as error:
                failures[third.name] = str(error).splitlines()[-1]
    take_turns(contenders, rounds, steps)
    for contender in contenders:
        contender.stop()
    for other in (first, twin):
        check_same(workload, ours, other)
    for other in contenders[3:]:
        try:
            check_same(workload, ours, other)
        except InputError as error:
            failures[other.name] = str(error)
            contenders.remove(other)
    return contenders, failures


def prepare_jax(workload: Workload, state_file: Path, cache: Path) -> Program:
    """Ours; only its process imports JAX."""
    from benchmarks.jax_training import JaxProgram

    return JaxProgram(workload, state_file, cache)


def prepare_torch(workload: Workload, state_file: Path, compiled: bool) -> Program:
    """The twin's; only its process imports PyTorch."""
    from benchmarks.torch_training import TorchProgram

    return TorchProgram(workload, state_file, compiled)


def check_devices(contenders: Sequence[Contender]) -> None:
    """Raises `InputError` unless all run on one kind of device."""
    ours, *others = contenders
    for other in others:
        if other.facts["platform"] != ours.facts["platform"]:
            raise InputError(
                f"{other.name} runs on the {other.facts['platform']}, JAX on the"
                f" {ours.facts['platform']}: give --device=cpu, or install both for the GPU"
            )


def check_same(workload: Workload, ours: Contender, other: Contender) -> None:
    """Raises `InputError` unless both had the same loss at first and at last."""
    for step, its_loss, our_loss in (
        ("first", other.facts["first_value"], ours.facts["first_value"]),
        ("last", other.turns[-1].values[-1], ours.turns[-1].values[-1]),
    ):
        if not abs(its_loss / our_loss - 1) <= TOLERANCE[workload.dtype]:
            raise InputError(
                f"{other.name} ends its {step} step with the loss {its_loss:.6f}, {ours.name} with"
                f" {our_loss:.6f}: they do not compute the same, and cannot be compared"
            )


def tables(
    workload: Workload, contenders: Sequence[Contender], failures: dict[str, str]
) -> list[Table]:
    """What was measured: a row for each program, and every round's seconds."""
    from benchmarks.torch_training import count_flops

    config = workload.training_config()
    flops = count_flops(workload)
    peak = max(turn.matrix_flops for contender in contenders for turn in contender.turns)
    on_gpu = contenders[0].facts["platform"] == "gpu"
    rows = []
    for program in contenders:
        seconds = [s for turn in program.turns for s in turn.seconds]
        cpu = [s for turn in program.turns for s in turn.cpu_seconds]
        median = statistics.median(seconds)
        # Round by round, so that what slowed a round down falls on both sides.
        ratios = [
            sum(theirs.seconds) / sum(ours.seconds)
            for ours, theirs in zip(contenders[0].turns, program.turns, strict=True)
        ]
        rows.append(
            [
                f"{program.name} ({program.facts['version']})",
                config.batch_size / median,
                median,
                statistics.median(cpu),
                statistics.median(ratios),
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                program.facts["start_seconds"],
                program.facts["peak_device_memory" if on_gpu else "peak_rss"] / 2**30,
                flops / median / 1e9,
                100 * flops / median / peak,
                f"{program.turns[-1].values[-1]:.5f}",
            ]
        )
    columns = (
        *(
            "program",
            "triplets/s",
            "s a step",
            "CPU s a step",
            "our speed / its",
            "single rounds",
        ),
        *("first step, s", "peak memory, GiB", "GFLOP/s", "% of matrix peak"),
        "last loss",
    )
    turns = contenders[0].turns
    note = [
        f"Medians of {len(turns)} rounds of {len(turns[0].seconds)} steps, the programs in turn."
        f" A step is {flops / 1e9:.0f} GFLOP by the definition of its convolutions; a large float32"
        f" matrix product reaches {peak / 1e9:.0f} GFLOP/s here."
    ]
    note += [f"{name} gave no result: {reason}" for name, reason in failures.items()]
    size = config.data.crop
    title = (
        f"Train step of the {workload.config} model, {size}x{size}, batch {config.batch_size},"
        f" {workload.dtype}"
    )
    each = [
        [k + 1, *(statistics.mean(c.turns[k].seconds) for c in contenders)]
        for k in range(len(turns))
    ]
    return [
        Table(title, columns, rows, " ".join(note)),
        Table("Every round, seconds a step", ("round", *(c.name for c in contenders)), each),
    ]


def _options(add) -> None:
    add("--config", choices=tuple(CONFIGS), default="small", help="default: %(default)s")
    add("--crop", type=int, default=0, help="side of the images (default: the config's)")
    add("--batch", type=int, default=0, help="triplets a step (default: the config's)")
    add("--devices", type=int, default=0, help="of JAX on a CPU (default: the config's)")
    add("--dtype", choices=tuple(TOLERANCE), default="float32", help="of the computation")
    add("--tf32", action=argparse.BooleanOptionalAction, default=True, help="on a GPU")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    add("--compile", action="store_true", help="torch.compile too")
    add("--rounds", type=int, default=5, help="turns of each program (default: %(default)s)")
    add("--steps", type=int, default=2, help="steps a turn (default: %(default)s)")


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Runs the programs; what holds for all, and the tables."""
    check_least(args, crop=0, batch=0, devices=0, rounds=1, steps=1)
    if args.crop % 16:
        raise InputError(f"--crop={args.crop}: expected a multiple of 16")
    workload = Workload(
        args.config, args.crop, args.batch, args.devices, args.dtype, args.tf32, args.device
    )
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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module."""
    run_benchmark("training", __doc__, _options, measure, arguments)


if __name__ == "__main__":
    main()
