"""Times propagation, ours against the PyTorch twin's, taking turns in one run.

    python -m benchmarks.inference                                       # about eight minutes
    python -m benchmarks.inference --objects 1 3 5 --memory 5 20 --compile --json=inference.json
    python -m benchmarks.inference --config paper --dtype=bfloat16       # a GPU

The time is what a caller waits for: a uint8 frame goes in, its label map and boxes come out on the
host, probabilities stay on the device. Compilation and disk are left out. Each program runs in a
process of its own (see `turns.py`), with the same weights, clip (see `clip.py`) and number of
memory frames; their labels are compared before timing.
"""

import argparse
import functools
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.clip import Clip
from benchmarks.tables import Table, check_least, run_benchmark
from benchmarks.turns import Contender, Program, check_platforms, matrix_peak, take_turns
from benchmarks.workload import CONFIGS, add_options
from qmra_jax.errors import InputError

SIZES = {"240p": (240, 427), "480p": (480, 854)}
WEIGHTS = {"small": Path(__file__).parents[1] / "weights/qmra-small.safetensors"}
# Largest share of labels that rounding may change, and largest mean difference of probabilities.
TOLERANCE = {"float32": (1e-3, 1e-3), "bfloat16": (2e-2, 2e-2)}
CASE = ("network", "frame", "objects", "memory frames", "program")


def _options(add) -> None:
    add("--config", nargs="+", choices=CONFIGS, default=["small"], help="networks")
    add("--size", nargs="+", choices=SIZES, default=["480p", "240p"], help="of the frames")
    add("--objects", nargs="+", type=int, default=[1, 3], help="numbers of objects")
    add("--memory", nargs="+", type=int, default=[5], help="numbers of memory frames, from 3")
    add_options(add)
    add("--rounds", type=int, default=4, help="turns of each program")
    add("--frames", type=int, default=3, help="frames per turn")


def chosen_clips(args: argparse.Namespace) -> list[Clip]:
    """Every combination of the options' values."""
    return [
        Clip(config, args.dtype, args.tf32, args.device, *SIZES[size], objects, memory)
        for config, size, objects, memory in itertools.product(
            args.config, args.size, args.objects, args.memory
        )
    ]


def compare(clip: Clip, *, compiled: bool, rounds: int, frames: int) -> list[Contender]:
    """Starts our program and the twin's, checks that their results agree, and times them.

    Raises:
      InputError: if a program other than torch.compile's fails, they run on different devices, or
        their results differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.safetensors"
        contenders = [
            Contender("ours", prepare_jax, (clip, WEIGHTS.get(clip.config), state)),
            Contender("PyTorch", prepare_torch, (clip, state, False)),
        ]
        if compiled:
            contenders.append(Contender("torch.compile", prepare_torch, (clip, state, True)))
        for contender in contenders:
            contender.start(may_fail=contender.name == "torch.compile")
    running = [contender for contender in contenders if not contender.failure]
    check_same(clip, running)
    take_turns(running, rounds, frames)
    return contenders


def prepare_jax(clip: Clip, weights_file: Path | None, state_file: Path) -> Program:
    """Our program; only its process imports JAX."""
    from benchmarks.jax_inference import JaxProgram

    return JaxProgram(clip, weights_file, state_file)


def prepare_torch(clip: Clip, state_file: Path, compiled: bool) -> Program:
    """The twin's program; only its process imports PyTorch."""
    from benchmarks.torch_inference import TorchProgram

    return TorchProgram(clip, state_file, compiled)


def check_same(clip: Clip, contenders: list[Contender]) -> None:
    """Adds the share of labels that differ from ours, `differ`, to each contender's facts.

    Raises:
      InputError: if rounding does not explain it, or devices are not of one kind.
    """
    check_platforms(contenders)
    ours = contenders[0].facts
    most_labels, most_probability = TOLERANCE[clip.dtype]
    for contender in contenders:
        facts = contender.facts
        facts["differ"] = float(np.mean(facts["labels"] != ours["labels"]))
        probabilities = float(np.abs(facts["probabilities"] - ours["probabilities"]).mean())
        if facts["differ"] > most_labels or probabilities > most_probability:
            raise InputError(
                f"{contender.name}: {facts['differ']:.2%} of its labels differ from ours, and its"
                f" probabilities by {probabilities:.4f} on average: they cannot be compared"
            )


def rows(clip: Clip, contenders: list[Contender], flops: int) -> list[dict]:
    """The table's rows of one clip; `flops` is the work of a frame."""
    size = next(name for name, size in SIZES.items() if size == (clip.height, clip.width))
    peak = matrix_peak(contenders)
    out: list[dict] = []
    for contender in contenders:
        case = (clip.config, size, clip.objects, clip.memory, contender.name)
        row: dict = dict(zip(CASE, case, strict=True))
        if not contender.failure:
            speed = contender.speed(contenders[0])
            row |= {
                "frames/s": 1 / speed.seconds,
                "ms a frame": 1000 * speed.seconds,
                "CPU ms a frame": 1000 * speed.cpu_seconds,
                "share of the matrix peak": flops / speed.seconds / peak,
                "peak GiB": speed.memory,
                "our speed / its": speed.ratio,
                "single turns": speed.ratios,
                "labels that differ": f"{contender.facts['differ']:.3%}",
            }
        else:
            row |= dict.fromkeys(list(out[0])[len(CASE) : -1], "-")
            row["labels that differ"] = contender.failure
        out.append(row)
    return out


def objects_table(measured: list[dict]) -> Table | None:
    """The time of several objects, relative to one object in the same program."""
    times = {tuple(row[name] for name in CASE): row["ms a frame"] for row in measured}
    out = []
    for (config, size, objects, memory, program), ms in times.items():
        one = times.get((config, size, 1, memory, program), "-")
        if objects > 1 and "-" not in (ms, one):
            case = dict(zip(CASE, (config, size, objects, memory, program), strict=True))
            out.append(case | {"times one object's frame": ms / one})
    return Table.of("Several objects", out) if out else None


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Times every clip: common facts, and the tables."""
    check_least(args, objects=1, memory=3, rounds=1, frames=1)

    from benchmarks.torch_inference import count_flops

    measured: list[dict] = []
    peaks: list[float] = []
    versions: dict[str, str] = {}
    for clip in chosen_clips(args):
        contenders = compare(clip, compiled=args.compile, rounds=args.rounds, frames=args.frames)
        flops = count_flops(clip)
        measured += rows(clip, contenders, flops)
        peaks.append(matrix_peak(contenders))
        versions |= {c.facts["version"]: c.facts["device"] for c in contenders if c.turns}
        case = [measured[-1][name] for name in CASE[:4]]
        print(f"{case}: {flops / 1e9:.0f} GFLOP a frame", file=sys.stderr, flush=True)
    about = {
        "programs": ", ".join(f"{version} ({device})" for version, device in versions.items()),
        "matrix peak": f"{max(peaks) / 1e9:.0f} GFLOP/s, the fastest of all large float32 products",
        "dtype": args.dtype,
    }
    note = (
        f"Medians of {args.rounds} turns of {args.frames} frames, in turn; our speed / its is the"
        " median of the turns' ratios. The share of the peak counts 2 FLOP per multiply-add of"
        " every convolution and product as defined. Peak memory is the process's,"
        " compiler included, or the GPU's."
    )
    table = Table.of("Propagation, frame by frame", measured, note)
    several = objects_table(measured)
    return about, [table, several] if several else [table]


main = functools.partial(run_benchmark, "inference", __doc__, _options, measure)

if __name__ == "__main__":
    main()
