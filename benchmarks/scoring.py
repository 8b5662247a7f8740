"""Times `qmra score` against the official DAVIS toolkit's method, reading PNGs included.

    python -m benchmarks.scoring                            # about three minutes
    python -m benchmarks.scoring --rounds=9 --json=scoring.json

Both score the same synthetic palette PNGs of 480x854 pixels, in turn. The toolkit is represented by
`davis_twin`, which does the same with the same libraries; its scores are compared with ours before
timing.
"""

import argparse
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks import davis_twin
from benchmarks.tables import Table, run_benchmark
from qmra_jax.masks import write_labels
from qmra_jax.scoring.score import score_folder

SIZE = (480, 854)
OBJECTS = (1, 3, 5)
_TOLERANCE = 1e-9


class Spent(NamedTuple):
    """Seconds of one run: elapsed, and of all cores, which other load affects less."""

    wall: float
    cpu: float


def make_masks(root: Path, *, sequences: int, frames: int, objects: int) -> list[str]:
    """Writes moving wavy blobs to root/truth (DAVIS layout), and noisy ones to root/predictions.

    Returns:
      The names of the sequences.
    """
    rng = np.random.default_rng(objects)
    names = [f"made-{number}" for number in range(sequences)]
    for name, t in itertools.product(names, range(frames)):
        true, predicted = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        for label in range(1, objects + 1):
            centre = np.array([60 + 640 * label / (objects + 1) + 2 * t, 120 + 45 * label])
            cv2.fillPoly(true, [_blob(centre, 75, t / 5)], label)
            off = centre + rng.normal(0, 3, 2)
            cv2.fillPoly(predicted, [_blob(off, 75 + rng.normal(0, 2), t / 5 + 0.1)], label)
        write_labels(root / "truth" / "Annotations" / "480p" / name / f"{t:05d}.png", true)
        write_labels(root / "predictions" / name / f"{t:05d}.png", predicted)
    return names


def _blob(centre: np.ndarray, radius: float, phase: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    waves = 0.2 * np.sin(3 * turn + phase) + 0.1 * np.sin(7 * turn - 2 * phase)
    radii = radius * (1 + waves + 0.05 * np.sin(23 * turn + phase))
    points = np.stack([1.2 * radii * np.cos(turn), radii * np.sin(turn)], axis=-1)
    return (centre + points).round().astype(np.int32)


def compare(root: Path, names: list[str], rounds: int) -> dict[str, list[Spent]]:
    """The time of each method in each round, the methods in turn.

    Raises:
      AssertionError: if the scores differ by more than 1e-9.
    """
    truth, predictions = root / "truth", root / "predictions"

    def ours(workers: int | None) -> dict:
        return score_folder(truth, predictions, split=None, progress=False, workers=workers)

    ways: dict[str, Callable[[], dict]] = {
        "toolkit's way": lambda: davis_twin.evaluate(
            truth / "Annotations" / "480p", predictions, names
        ),
        "qmra": lambda: ours(None),
        "qmra, one worker": lambda: ours(1),
    }
    # This also fills the system's file cache.
    if (off := difference(ours(None), ways["toolkit's way"]())) > _TOLERANCE:
        raise AssertionError(f"the scores differ by {off}: times cannot be compared")
    spent: dict[str, list[Spent]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            spent[way].append(Spent(time.perf_counter() - wall, time.process_time() - cpu))
    return spent


def difference(ours: dict, toolkit: dict[str, dict[str, list[float]]]) -> float:
    """The largest difference between two numbers of the same object; KeyError if one is missing."""
    by_object = {
        f"{name}_{label}": scores
        for name, sequence in ours["sequences"].items()
        for label, scores in sequence["objects"].items()
    }
    return max(
        abs(a - b)
        for name, scores in toolkit.items()
        for measure in "JF"
        for a, b in zip(by_object[name][measure].values(), scores[measure], strict=True)
    )


def table(measured: dict[int, dict[str, list[Spent]]], frames: int) -> Table:
    """Median times, and each round's ratio to the toolkit's.

    Args:
      measured: result of `compare` by number of objects.
      frames: scored in each run.
    """
    rows = []
    for objects, spent in measured.items():
        base = spent["toolkit's way"]
        for way, runs in spent.items():
            ratios = [a.wall / b.wall for a, b in zip(base, runs, strict=True)]
            cpu_ratio = statistics.median(a.cpu / b.cpu for a, b in zip(base, runs, strict=True))
            rows.append(
                {
                    "objects": objects,
                    "way": way,
                    "ms a frame": 1000 * statistics.median(run.wall for run in runs) / frames,
                    "times as fast": statistics.median(ratios),
                    "single rounds": f"{min(ratios):.1f} to {max(ratios):.1f}",
                    "as little CPU time": cpu_ratio,
                }
            )
    note = f"{frames} frames a run; medians of {len(base)} rounds, the methods in turn."
    return Table.of("Scoring masks of 480x854, from PNG files to J and F", rows, note)


def _options(add) -> None:
    add("--sequences", type=int, default=2, help="sequences in a run (default: 2)")
    add("--frames", type=int, default=30, help="frames of a sequence (default: 30)")
    add("--rounds", type=int, default=5, help="runs of each way (default: 5)")


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Makes masks for each number of objects and times scoring: no common facts, and the table."""
    measured = {}
    for objects in OBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            names = make_masks(
                Path(folder), sequences=args.sequences, frames=args.frames, objects=objects
            )
            measured[objects] = compare(Path(folder), names, args.rounds)
    return {}, [table(measured, args.sequences * (args.frames - 2))]


main = functools.partial(run_benchmark, "scoring", __doc__, _options, measure)

if __name__ == "__main__":
    main()
