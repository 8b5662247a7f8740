"""Times our train step against the PyTorch twin's, taking turns in one run.

    python -m benchmarks.training                          # small model, 192x192, batch 8
    python -m benchmarks.training --config paper --crop 384 --batch 16 --dtype bfloat16   # a GPU

Each program runs in a process of its own (see `turns.py`), from the same weights, on the same
triplets, to the same losses; where the losses part, there is no result but an error.
"""

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.tables import markdown_table
from benchmarks.turns import Contender, Program, take_turns
from benchmarks.workload import CONFIGS, Workload
from qmra_jax.errors import InputError, exit_on_input_error

# Largest relative difference of the first losses: of rounding, and of nothing else.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}

Option = typer.Option


def main(
    config: Annotated[str, Option(help="small | paper")] = "small",
    crop: Annotated[int, Option(help="Image size; 0: the config's.")] = 0,
    batch: Annotated[int, Option(help="Triplets a step; 0: the config's.")] = 0,
    devices: Annotated[int, Option(help="JAX devices on a CPU; 0: the config's.")] = 0,
    dtype: Annotated[str, Option(help="float32 | bfloat16, of the computation")] = "float32",
    tf32: Annotated[bool, Option(help="A GPU may round float32 factors to TF32.")] = True,
    device: Annotated[str, Option(help="auto | cpu | gpu")] = "auto",
    compile: Annotated[bool, Option(help="A column for torch.compile.")] = False,
    rounds: Annotated[int, Option(help="Turns of each program.")] = 5,
    steps: Annotated[int, Option(help="Steps a turn.")] = 2,
    json_file: Annotated[Path | None, Option("--json", help="Results, also here.")] = None,
) -> None:
    """Prints a Markdown table: triplets a second, compile time, memory, share of the peak."""
    with exit_on_input_error():
        check_options(config=config, dtype=dtype, device=device, rounds=rounds, steps=steps)
        workload = Workload(config, crop, batch, devices, dtype, tf32, device)
        contenders = run(workload, compiled=compile, rounds=rounds, steps=steps)
        results = summarize(workload, contenders)
        print(report(results))
        if json_file is not None:
            json_file.write_text(json.dumps(results, indent=2) + "\n")


def check_options(*, config: str, dtype: str, device: str, rounds: int, steps: int) -> None:
    """Raises `InputError` for a value that is not among those documented."""
    allowed: dict[str, tuple[str, Collection[str]]] = {
        "config": (config, CONFIGS),
        "dtype": (dtype, TOLERANCE),
        "device": (device, ("auto", "cpu", "gpu")),
    }
    for name, (value, values) in allowed.items():
        if value not in values:
            raise InputError(f"--{name} {value!r}: expected one of {', '.join(values)}")
    for name, count in (("rounds", rounds), ("steps", steps)):
        if count < 1:
            raise InputError(f"--{name} {count}: expected at least 1")


def run(workload: Workload, *, compiled: bool, rounds: int, steps: int) -> list[Contender]:
    """Starts ours and the twin's programs, checks that they compute the same, and times them.

    Raises:
      InputError: if a program fails, or they run on different devices, or their losses differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.safetensors"
        contenders = [
            Contender("JAX, ours", prepare_jax, (workload, state)),
            Contender("PyTorch", prepare_torch, (workload, state, False)),
        ]
        if compiled:
            contenders.append(Contender("torch.compile", prepare_torch, (workload, state, True)))
        for contender in contenders:
            contender.start()
    check_same(workload, contenders)
    take_turns(contenders, rounds, steps)
    for contender in contenders:
        contender.stop()
    return contenders


def prepare_jax(workload: Workload, state_file: Path) -> Program:
    """Ours; only its process imports JAX."""
    from benchmarks.jax_training import JaxProgram

    return JaxProgram(workload, state_file)


def prepare_torch(workload: Workload, state_file: Path, compiled: bool) -> Program:
    """The twin's; only its process imports PyTorch."""
    from benchmarks.torch_training import TorchProgram

    return TorchProgram(workload, state_file, compiled)


def check_same(workload: Workload, contenders: list[Contender]) -> None:
    """Raises `InputError` unless all run on one kind of device and begin with the same loss."""
    ours, *others = (contender.facts for contender in contenders)
    for facts, contender in zip(others, contenders[1:], strict=True):
        if facts["platform"] != ours["platform"]:
            raise InputError(
                f"{contender.name} runs on the {facts['platform']}, JAX on the {ours['platform']}:"
                " give --device cpu, or install both for the GPU"
            )
        if abs(facts["first_value"] / ours["first_value"] - 1) > TOLERANCE[workload.dtype]:
            raise InputError(
                f"{contender.name} begins with the loss {facts['first_value']:.6f}, JAX with"
                f" {ours['first_value']:.6f}: they do not compute the same"
            )


def summarize(workload: Workload, contenders: list[Contender]) -> dict[str, Any]:
    """Medians of what was measured, ready for JSON."""
    from benchmarks.torch_training import count_flops

    config = workload.training_config()
    flops = count_flops(workload)
    peak = max(turn.matrix_flops for contender in contenders for turn in contender.turns)
    columns = []
    for contender in contenders:
        seconds = [s for turn in contender.turns for s in turn.seconds]
        cpu = [s for turn in contender.turns for s in turn.cpu_seconds]
        median = statistics.median(seconds)
        columns.append(
            {
                "name": contender.name,
                **contender.facts,
                "triplets_per_second": config.batch_size / median,
                "step_seconds": median,
                "step_seconds_of_each": seconds,
                "cpu_seconds": statistics.median(cpu),
                "flops_per_second": flops / median,
                "share_of_peak": flops / median / peak,
                "last_value": contender.turns[-1].values[-1],
            }
        )
    for column, contender in zip(columns, contenders, strict=True):
        # Round by round, so that what slowed a round down falls on both sides.
        column["ratio"] = {
            other.name: statistics.median(
                sum(theirs.seconds) / sum(ours.seconds)
                for ours, theirs in zip(contender.turns, other.turns, strict=True)
            )
            for other in contenders
            if other is not contender
        }
    return {
        "config": workload.config,
        "crop": config.data.crop,
        "batch_size": config.batch_size,
        "dtype": workload.dtype,
        "tf32": workload.tf32,
        "device": contenders[0].facts["device"],
        "machine": processor(),
        "step_flops": flops,
        "matrix_flops_per_second": peak,
        "programs": columns,
    }


def report(results: dict[str, Any]) -> str:
    """The results as text: one sentence on what was run, and a table."""
    columns = results["programs"]
    on_gpu = columns[0]["platform"] == "gpu"
    peak = results["matrix_flops_per_second"]

    def row(title: str, text):
        return [title, *(text(column) for column in columns)]

    def memory(column):
        return f"{column['peak_device_memory' if on_gpu else 'peak_rss'] / 2**30:.2f} GiB"

    rows = [
        ["", *(f"{column['name']} ({column['version']})" for column in columns)],
        row("triplets a second", lambda c: f"{c['triplets_per_second']:.2f}"),
        row("a step, median", lambda c: f"{c['step_seconds']:.3f} s"),
        row("processor time a step", lambda c: f"{c['cpu_seconds']:.2f} s"),
        row("first step, with compiling", lambda c: f"{c['start_seconds']:.1f} s"),
        row("peak memory", memory),
        row("GFLOP a second", lambda c: f"{c['flops_per_second'] / 1e9:.0f}"),
        row("share of the matrix peak", lambda c: f"{c['share_of_peak']:.0%}"),
        row("loss of the last step", lambda c: f"{c['last_value']:.4f}"),
    ]
    rows += [
        row(f"speed over {other['name']}", lambda c, o=other: f"{c['ratio'].get(o['name'], 1):.2f}")
        for other in columns[1:]
    ]
    size = results["crop"]
    return (
        f"Train step of the {results['config']} model, {size}x{size}, batch"
        f" {results['batch_size']}, {results['dtype']}, on {results['machine']}"
        f"{', ' + results['device'] if on_gpu else ''}: {results['step_flops'] / 1e9:.0f} GFLOP a"
        f" step as direct convolutions; a large float32 matrix product reaches"
        f" {peak / 1e9:.0f} GFLOP/s.\n\n{markdown_table(rows)}"
    )


def processor() -> str:
    """The processor's name and how many of its cores there are."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    typer.run(main)
