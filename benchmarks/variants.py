"""What every row of configs/ablations.py changes, its parameters, and the work of a frame.

python -m benchmarks.variants                       # seconds: nothing is compiled or timed
python -m benchmarks.variants --memory 20 --json=variants.json
"""

import argparse
from collections.abc import Sequence

from benchmarks import network_cost
from benchmarks.tables import Table, run_benchmark
from configs.ablations import ABLATIONS, get_config
from qmra_jax.network.build import build_model

SIZES = {"small": "small", "paper": "youtube_vos"}  # the base of each in configs/ablations.py
HEIGHT, WIDTH = 480, 864


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """A row for each ablation, at both sizes."""
    memory, rows = args.memory, []
    for name, changes in ABLATIONS.items():
        shown = ", ".join(f"{key.removeprefix('model.')}={value}" for key, value in changes.items())
        row: list[str] = [name, f"`{shown}`" if shown else "the paper's network"]
        for base in SIZES.values():
            model = build_model(get_config(f"{name}@{base}").model)
            row.append(f"{network_cost.parameters(model):,}")
            frames = min(memory, 2) if name == "no_ef" else memory
            row.append(f"{network_cost.frame_flops(model, HEIGHT, WIDTH, frames) / 1e9:.0f}")
        rows.append(row)
    heads = [f"{size}: {what}" for size in SIZES for what in ("parameters", "GFLOP a frame")]
    table = Table(
        f"One frame of {HEIGHT}x{WIDTH}, one object, {memory} memory frames",
        ("row", "changes", *heads),
        rows,
        "Operations are 2 a multiply-add of convolutions and matrix products, counted from the"
        " traced program.",
    )
    return {}, [table]


def _options(add) -> None:
    add("--memory", type=int, default=5, help="memory frames (default: 5)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module."""
    run_benchmark("variants", __doc__, _options, measure, arguments)


if __name__ == "__main__":
    main()
