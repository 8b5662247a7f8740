"""Scores weights on the videos that they are selected by: `configs/selection.py`.

    python -m benchmarks.selection results/base --weights=base.safetensors
    python ../benchmarks/selection.py base --workdir=../runs/base --short_side=240

The options after the output folder are evaluate.py's, which runs once for each dataset below
$QMRA_DATA; the same command resumes. Prints each video's J and F, their means, and the mean J of
the worst quarter.
"""

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.selection import SELECTION
from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.runtime.compile_cache import keep_compiled_programs

sys.path.insert(0, str(Path(__file__).parents[1]))  # of evaluate.py, in any working directory
import evaluate


def score(data: Path, output: Path, options: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Evaluates all datasets: `{"FOLDER/VIDEO": (J, F)}`.

    Raises:
      InputError: if `evaluate.evaluate` refuses a dataset, or leaves it to other shards.
    """
    scores: dict[str, tuple[float, float]] = {}
    for folder, names in SELECTION.items():
        protocol = "davis2016" if folder == "davis2016" else "davis2017"
        places = [f"--dataset={protocol}", f"--data_dir={data / folder}", "--split=all"]
        places += [f"--output={output / folder}", *options, "--sequences", *names]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluate.evaluate(evaluate.parse_args(places))
    for folder in SELECTION:
        path = output / folder / "scores.json"
        if not path.is_file():
            raise InputError(f"{path} is missing: run all shards, then the command without --shard")
        for name, s in json.loads(path.read_text())["sequences"].items():
            scores[f"{folder}/{name}"] = s["J"]["mean"], s["F"]["mean"]
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluates and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for masks and scores")
    args, options = parser.parse_known_args(arguments)
    keep_compiled_programs()
    with exit_on_input_error():
        if not os.environ.get("QMRA_DATA"):
            raise InputError("QMRA_DATA is not set: set it to the folder that holds the datasets")
        scores = score(Path(os.environ["QMRA_DATA"]), args.output, options)
    for name, (j, f) in scores.items():
        print(f"{name:40} J {j:.3f}  F {f:.3f}")
    j, f = np.mean(list(scores.values()), axis=0)
    worst = np.sort([j for j, _ in scores.values()])[: -(-len(scores) // 4)].mean()
    print(f"{'mean':40} J {j:.3f}  F {f:.3f}  worst quarter J {worst:.3f}")
    summary = {"sequences": scores, "J": j, "F": f, "worst_quarter_J": worst}
    (args.output / "selection.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
