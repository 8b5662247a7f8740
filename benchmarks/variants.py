"""Tabulates the rows of configs/ablations.py: changes, parameters, and FLOP per frame.

python -m benchmarks.variants                       # seconds: nothing is compiled or timed
python -m benchmarks.variants --memory 20 --json=variants.json
"""

import argparse
import functools

from benchmarks import network_cost
from benchmarks.tables import Table, run_benchmark
from configs.ablations import ABLATIONS, get_config
from qmra_jax.network.build import build_model

SIZES = {"small": "small", "paper": "youtube_vos"}  # the base of each in configs/ablations.py
HEIGHT, WIDTH = 480, 864


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """A row for each ablation, at both sizes: no common facts, and the table."""
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
        "2 FLOP per multiply-add of convolutions and matrix products in the traced program.",
    )
    return {}, [table]


def _options(add) -> None:
    add("--memory", type=int, default=5, help="memory frames (default: %(default)s)")


main = functools.partial(run_benchmark, "variants", __doc__, _options, measure)

if __name__ == "__main__":
    main()
