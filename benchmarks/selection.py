"""J and F on the videos that weights are chosen by: `configs/selection.py`.

    python -m benchmarks.selection results/base --weights=base.safetensors
    python -m benchmarks.selection results/base --workdir=runs/base --short_side=240

Everything behind the output folder goes to evaluate.py, once for each dataset below $QMRA_DATA: the
same command goes on where it was interrupted. It ends with each video's scores, their mean and the
mean J of the worst quarter.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from configs.selection import SELECTION
from qmra_jax.errors import InputError, exit_on_input_error


def evaluate(folder: str, names: tuple[str, ...], output: Path, options: list[str]) -> dict:
    """The scores of some videos of a dataset: {name: (J, F)}.

    Raises:
      InputError: if evaluate.py fails; it has told why.
    """
    protocol = "davis2016" if folder == "davis2016" else "davis2017"
    root = Path(os.environ["QMRA_DATA"]) / folder
    command = [
        *(sys.executable, "evaluate.py", f"--dataset={protocol}", f"--data_dir={root}"),
        *("--split=all", f"--output={output / folder}", *options, "--sequences", *names),
    ]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise InputError(f"{folder}: evaluate.py failed; see its message above")
    scores = json.loads((output / folder / "scores.json").read_text())["sequences"]
    return {f"{folder}/{name}": (s["J"]["mean"], s["F"]["mean"]) for name, s in scores.items()}


def main() -> None:
    """Evaluates and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for masks and scores")
    args, options = parser.parse_known_args()
    with exit_on_input_error():
        if not os.environ.get("QMRA_DATA"):
            raise InputError("QMRA_DATA is not set: set it to the folder that holds the datasets")
        scores: dict[str, tuple[float, float]] = {}
        for folder, names in SELECTION.items():
            scores |= evaluate(folder, names, args.output, options)
    for name, (j, f) in scores.items():
        print(f"{name:40} J {j:.3f}  F {f:.3f}")
    j, f = np.mean(list(scores.values()), axis=0)
    worst = np.sort([j for j, _ in scores.values()])[: -(-len(scores) // 4)].mean()
    print(f"{'mean':40} J {j:.3f}  F {f:.3f}  worst quarter J {worst:.3f}")
    summary = {"sequences": scores, "J": j, "F": f, "worst_quarter_J": worst}
    (args.output / "selection.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
