"""Frames a second of propagation, ours against the PyTorch twin's, taking turns in one run.

    python -m benchmarks.inference                                       # about eight minutes
    python -m benchmarks.inference --objects 1 3 5 --memory 5 20 --compile --json=inference.json
    python -m benchmarks.inference --config paper --dtype=bfloat16       # a GPU

Timed is what a caller waits for: a frame goes in as uint8, its label map and boxes come out on the
host, probabilities stay on the device. Compiling and disk are left out. Each program runs in a
process of its own (see `turns.py`), from the same weights, on the same clip (see `clip.py`), with
as many frames in memory; their labels are compared before anything is timed.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.clip import CONFIGS, Clip
from benchmarks.tables import Table, check_least, run_benchmark
from benchmarks.turns import Contender, Program, take_turns
from qmra_jax.errors import InputError

SIZES = {"240p": (240, 427), "480p": (480, 854)}
WEIGHTS = {"small": Path(__file__).parents[1] / "weights/qmra-small.safetensors"}
# Largest share of labels that may differ, by rounding where two are as likely, and largest mean
# difference of probabilities.
TOLERANCE = {"float32": (1e-3, 1e-3), "bfloat16": (2e-2, 2e-2)}
COLUMNS = (
    *("network", "frame", "objects", "memory frames", "program"),
    *("frames/s", "ms a frame", "CPU ms a frame", "share of the matrix peak", "peak GiB"),
    *("our speed / its", "single turns", "labels that differ"),
)


def _options(add) -> None:
    add("--config", nargs="+", choices=CONFIGS, default=["small"], help="networks")
    add("--size", nargs="+", choices=SIZES, default=["480p", "240p"], help="of the frames")
    add("--objects", nargs="+", type=int, default=[1, 3], help="numbers of objects")
    add("--memory", nargs="+", type=int, default=[5], help="numbers of memory frames, from 3")
    add("--dtype", choices=TOLERANCE, default="float32", help="of the computation")
    add(
        "--tf32",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a GPU may round float32 factors to TF32",
    )
    add("--device", choices=("auto", "cpu", "gpu"), default="auto")
    add("--compile", action="store_true", help="a row for torch.compile")
    add("--rounds", type=int, default=4, help="turns of each program")
    add("--frames", type=int, default=3, help="frames a turn")


def chosen_clips(args: argparse.Namespace) -> list[Clip]:
    """Every combination of the options' values."""
    common = {"dtype": args.dtype, "tf32": args.tf32, "device": args.device}
    return [
        Clip(config, *SIZES[size], objects, memory, **common)
        for config, size, objects, memory in itertools.product(
            args.config, args.size, args.objects, args.memory
        )
    ]


def compare(clip: Clip, *, compiled: bool, rounds: int, frames: int) -> list[Contender]:
    """Starts ours and the twin's programs, checks that they compute the same, and times them.

    Raises:
      InputError: if a program fails, or they run on different devices, or their labels differ;
        torch.compile's failing is told in its row instead.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.safetensors"
        contenders = [
            Contender("ours", prepare_jax, (clip, WEIGHTS.get(clip.config), state)),
            Contender("PyTorch", prepare_torch, (clip, state, False)),
        ]
        for contender in contenders:
            contender.start()
        if compiled:
            extra = Contender("torch.compile", prepare_torch, (clip, state, True))
            try:
                extra.start()
            except InputError as error:
                extra.facts["failed"] = str(error).splitlines()[-1]
            contenders.append(extra)
    running = [contender for contender in contenders if "failed" not in contender.facts]
    check_same(clip, running)
    take_turns(running, rounds, frames)
    for contender in running:
        contender.stop()
    return contenders


def prepare_jax(clip: Clip, weights_file: Path | None, state_file: Path) -> Program:
    """Ours; only its process imports JAX."""
    from benchmarks.jax_inference import JaxProgram

    return JaxProgram(clip, weights_file, state_file)


def prepare_torch(clip: Clip, state_file: Path, compiled: bool) -> Program:
    """The twin's; only its process imports PyTorch."""
    from benchmarks.torch_inference import TorchProgram

    return TorchProgram(clip, state_file, compiled)


def check_same(clip: Clip, contenders: list[Contender]) -> None:
    """Notes by how much labels differ from ours, in each contender's facts.

    Raises:
      InputError: if that is more than rounding explains, or devices are not of one kind.
    """
    ours = contenders[0].facts
    for contender in contenders:
        facts = contender.facts
        if facts["platform"] != ours["platform"]:
            raise InputError(
                f"{contender.name} runs on the {facts['platform']}, JAX on the {ours['platform']}:"
                " give --device cpu, or install both for the GPU"
            )
        labels = float(np.mean(facts["labels"] != ours["labels"]))
        probabilities = float(np.abs(facts["probabilities"] - ours["probabilities"]).mean())
        facts["differ"] = labels
        most_labels, most_probability = TOLERANCE[clip.dtype]
        if labels > most_labels or probabilities > most_probability:
            raise InputError(
                f"{contender.name}: {labels:.2%} of its labels are not ours, and its probabilities"
                f" are {probabilities:.4f} from ours on average: they do not compute the same"
            )


def rows(clip: Clip, contenders: list[Contender], flops: int) -> list[tuple]:
    """The table's rows of one clip."""
    size = next(name for name, size in SIZES.items() if size == (clip.height, clip.width))
    peak = max(turn.matrix_flops for c in contenders for turn in c.turns)
    ours = contenders[0]
    out: list[tuple] = []
    for contender in contenders:
        case = (clip.config, size, clip.objects, clip.memory, contender.name)
        facts = contender.facts
        if "failed" in facts:
            out.append((*case, *["-"] * 7, f"failed: {facts['failed']}"))
            continue
        seconds = statistics.median(s for turn in contender.turns for s in turn.seconds)
        cpu = statistics.median(s for turn in contender.turns for s in turn.cpu_seconds)
        memory = facts["peak_device_memory" if facts["platform"] == "gpu" else "peak_rss"]
        # Round by round, so that what slowed a round down falls on both sides.
        ratios = [
            sum(theirs.seconds) / sum(own.seconds)
            for own, theirs in zip(ours.turns, contender.turns, strict=True)
        ]
        speed = (1 / seconds, 1000 * seconds, 1000 * cpu, flops / seconds / peak)
        ratio = (statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}")
        out.append((*case, *speed, memory / 2**30, *ratio, f"{facts['differ']:.3%}"))
    return out


def objects_table(table: Table) -> Table:
    """What several objects cost, in frames with one object of the same program."""
    by_case = {row[:5]: row[6] for row in table.rows if not isinstance(row[6], str)}
    out = [
        (config, size, objects, memory, program, ms / by_case[config, size, 1, memory, program])
        for (config, size, objects, memory, program), ms in by_case.items()
        if objects > 1 and (config, size, 1, memory, program) in by_case
    ]
    return Table("Several objects", (*COLUMNS[:5], "times one object's frame"), out)


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Runs every clip; what holds for all, and the tables."""
    check_least(args, objects=1, memory=3, rounds=1, frames=1)

    from benchmarks.torch_inference import count_flops

    found: list[tuple] = []
    peaks: list[float] = []
    versions: dict[str, str] = {}
    for clip in chosen_clips(args):
        contenders = compare(clip, compiled=args.compile, rounds=args.rounds, frames=args.frames)
        flops = count_flops(clip)
        found += rows(clip, contenders, flops)
        peaks += [turn.matrix_flops for c in contenders for turn in c.turns]
        versions |= {c.facts["version"]: c.facts["device"] for c in contenders if c.turns}
        print(
            f"{found[-len(contenders)][:4]}: {flops / 1e9:.0f} GFLOP a frame",
            file=sys.stderr,
            flush=True,
        )
    about = {
        "programs": ", ".join(f"{version} ({device})" for version, device in versions.items()),
        "matrix peak": f"{max(peaks) / 1e9:.0f} GFLOP/s, the fastest of all large float32 products",
        "dtype": args.dtype,
    }
    note = (
        f"Medians of {args.rounds} turns of {args.frames} frames, in turn; our speed / its is the"
        " median of the turns' own ratios. The share of the peak is of the work as defined"
        " (2 a multiply-add of every convolution and product)."
        " Peak memory is the process's, compiler included, or the GPU's."
    )
    table = Table("Propagation, frame by frame", COLUMNS, found, note)
    several = objects_table(table)
    return about, [table, several] if several.rows else [table]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module."""
    run_benchmark("inference", __doc__, _options, measure, arguments)


if __name__ == "__main__":
    main()
