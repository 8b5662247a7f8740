"""What every row of configs/ablations.py changes, its parameters, and the work of a frame.

python -m benchmarks.variants                       # seconds: nothing is compiled or timed
python -m benchmarks.variants --memory 20 --json=variants.json
"""

import argparse
import shlex
import sys

from benchmarks import network_cost
from benchmarks.tables import Table, check_output, report
from configs.ablations import ABLATIONS, get_config
from qmra_jax.errors import exit_on_input_error
from qmra_jax.network.build import build_model

SIZES = {"small": "small", "paper": "youtube_vos"}  # the base of each in configs/ablations.py
HEIGHT, WIDTH = 480, 864


def measure(memory: int) -> Table:
    """A row for each ablation, at both sizes.

    Args:
      memory: frames in the memory.
    """
    rows = []
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
    return Table(
        f"One frame of {HEIGHT}x{WIDTH}, one object, {memory} memory frames",
        ("row", "changes", *heads),
        rows,
        "Operations are 2 a multiply-add of convolutions and matrix products, counted from the"
        " traced program.",
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=int, default=5, help="memory frames (default: 5)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the table there too")
    args = parser.parse_args()
    with exit_on_input_error():
        check_output(args.json)
        about = {"command": f"python -m benchmarks.variants {shlex.join(sys.argv[1:])}".strip()}
        report(about, [measure(args.memory)], args.json)


if __name__ == "__main__":
    main()
