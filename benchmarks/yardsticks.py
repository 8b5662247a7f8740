"""Scores trivial baselines that a method must beat, on DAVIS 2016 or your own videos.

    python -m benchmarks.yardsticks --data_dir=$QMRA_DATA/davis2016
    python -m benchmarks.yardsticks --data_dir=DAVIS --predictions qmra=results/val --json=y.json

box held still    the tight box of the first mask, filled, in every frame
mask held still   the first mask in every frame
perfect box       the tight box of each frame's own mask, filled: a perfect tracker

The last two need masks that a box-supervised method never sees. `--predictions` adds a row for
existing masks, such as evaluate.py's.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.tables import Table, run_benchmark
from data_pipeline.datasets.davis import find_sequences
from qmra_jax.boxes import box_to_map, mask_to_box
from qmra_jax.cli.score import named_folders
from qmra_jax.errors import InputError
from qmra_jax.masks import foreground, read_labels, write_labels
from qmra_jax.scoring.score import score_folder


def filled_box(mask: np.ndarray) -> np.ndarray:
    """The tight box of a mask, filled: bool `[h, w]` of bool `[h, w]`."""
    return box_to_map(mask_to_box(mask), *mask.shape) > 0


YARDSTICKS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "box held still": lambda first, now: filled_box(first),
    "mask held still": lambda first, now: first,
    "perfect box": lambda first, now: filled_box(now),
}
"""Name -> function of the first frame's and this frame's mask that predicts a mask."""


def score_yardsticks(root: Path, split: str | None) -> dict[str, dict]:
    """Scores each yardstick by DAVIS 2016's protocol: name -> result of `score_folder`.

    Args:
      root: of a dataset in the DAVIS layout.
      split: its list; None for every sequence.

    Raises:
      InputError: if a list or a mask is missing.
    """
    sequences = find_sequences(root, split=split, need_frames=False)
    with tempfile.TemporaryDirectory() as folder:
        for sequence in tqdm(sequences, desc="yardsticks", unit="sequence"):
            masks = [foreground(read_labels(path)) for path in sequence.annotations]
            for name, predict in YARDSTICKS.items():
                for path, mask in zip(sequence.annotations, masks, strict=True):
                    labels = predict(masks[0], mask).astype(np.uint8)
                    write_labels(Path(folder) / name / sequence.name / path.name, labels)
        return {name: _score(root, Path(folder) / name, split) for name in YARDSTICKS}


def table(scores: Mapping[str, dict]) -> Table:
    """A row per yardstick: mean J and F over sequences, and J of each of a few."""
    sequences = list(next(iter(scores.values()))["sequences"])
    few = sequences if len(sequences) <= 6 else []
    rows = []
    for name, score in scores.items():
        means = [score["J"]["mean"], score["F"]["mean"]]
        single = [score["sequences"][sequence]["J"]["mean"] for sequence in few]
        rows.append([name, *(f"{value:.3f}" for value in means + single)])
    columns = ["masks", "J", "F", *(f"J of {sequence}" for sequence in few)]
    return Table(f"{len(sequences)} sequences, DAVIS 2016's protocol", columns, rows)


def _score(root: Path, predictions: Path, split: str | None) -> dict:
    return score_folder(root, predictions, protocol="davis2016", split=split, progress=False)


def _options(add) -> None:
    add("--data_dir", type=Path, required=True, help="root of the dataset, in DAVIS's layout")
    add("--split", default="val", help="a list of ImageSets; `all` (default: val)")
    masks = "masks to score as well; repeatable"
    add("--predictions", action="append", default=[], metavar="NAME=DIR", help=masks)


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Scores the yardsticks and --predictions: no common facts, and the table."""
    split = None if args.split == "all" else args.split
    others = named_folders(args.predictions)
    if taken := sorted(others.keys() & YARDSTICKS.keys()):
        raise InputError(f"--predictions {taken[0]}=...: that is a yardstick; give another name")
    scores = {name: _score(args.data_dir, at, split) for name, at in others.items()}
    return {}, [table(score_yardsticks(args.data_dir, split) | scores)]


main = functools.partial(run_benchmark, "yardsticks", __doc__, _options, measure)

if __name__ == "__main__":
    main()
