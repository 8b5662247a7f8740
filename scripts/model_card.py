"""Draws the pictures of a model card: the training curve, and failures.

    python scripts/model_card.py --output=weights/qmra-small \\
        --runs runs/small runs/small_video runs/small_large \\
        --results=results/kept-back --data_dir=$QMRA_DATA/davis2016

writes weights/qmra-small-curve.png for one run or several that continue each other, and
weights/qmra-small-failures.jpg for the sequences with the lowest J in evaluate.py's results on
DAVIS 2016. Existing files are replaced.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from data_pipeline.eval_videos import EvalVideo, find_eval_videos
from qmra_jax.boxes import mask_to_box
from qmra_jax.drawing import overlay, strip
from qmra_jax.errors import InputError, exit_on_input_error, require_packages
from qmra_jax.images import read_image
from qmra_jax.masks import foreground, read_labels
from qmra_jax.scoring.metrics import jaccard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW = 100  # steps averaged for a point of the curve
SEQUENCES, FRAMES = 3, 4  # pictured sequences, and frames of each


def main() -> None:
    """Writes the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="common start of the file names")
    parser.add_argument("--runs", type=Path, nargs="+", help="workdirs in order")
    parser.add_argument("--results", type=Path, help="an output folder of evaluate.py")
    parser.add_argument("--data_dir", type=Path, help="the DAVIS 2016 folder it was given")
    args = parser.parse_args()
    if not args.runs and not args.results:
        parser.error("expected --runs, --results, or both")
    if bool(args.results) != bool(args.data_dir):
        parser.error("--results and --data_dir: expected both or neither")
    if not args.output.parent.is_dir():
        raise InputError(f"{args.output.parent}: no such folder")
    if args.runs:
        require_packages("scripts/model_card.py --runs", "matplotlib", extra="plots")
        path = Path(f"{args.output}-curve.png")
        curve(args.runs).savefig(path)
        print(path)
    if args.results:
        path = Path(f"{args.output}-failures.jpg")
        Image.fromarray(failures(args.results, args.data_dir)).save(path, quality=88)
        print(path)


def curve(runs: Sequence[Path]) -> "Figure":
    """Plots J of training batches and held-out videos over the steps of consecutive runs.

    Raises:
      InputError: if one is not a workdir, or has no logged step yet.
    """
    batches: list[tuple[int, float]] = []  # (step, J)
    held_out: list[tuple[int, float]] = []
    ends = [0]
    for run in runs:
        rows = _rows(run)
        for start in range(0, rows[-1]["step"], WINDOW):
            values = [r["J_refined"] for r in rows if start < r["step"] <= start + WINDOW]
            if values:
                step = min(start + WINDOW, rows[-1]["step"])
                batches.append((ends[-1] + step, float(np.mean(values))))
        for path in sorted((run / "validation").glob("*.json")):
            held_out.append((ends[-1] + int(path.stem), json.loads(path.read_text())["J"]))
        ends.append(ends[-1] + rows[-1]["step"])

    from qmra_jax.plots import GREY, bare, colour, new_figure  # loads matplotlib

    figure = new_figure(860, 360)
    axes = figure.add_axes((0.075, 0.14, 0.9, 0.7))
    bare(axes, grid="both")
    text = f"training batches, mean of {WINDOW} steps"
    axes.plot(*zip(*batches, strict=True), color=colour(0), linewidth=2, label=text)
    if held_out:
        style = {"color": colour(1), "marker": "D", "clip_on": False}
        axes.plot(*zip(*held_out, strict=True), label="held-out videos", **style)  # type: ignore
    axes.set(xlim=(0, ends[-1]), ylim=(0, 1), xticks=ends)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("training steps, with a line at the end of each run", color=GREY)
    axes.set_ylabel("J of the refined mask", color=GREY)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def failures(results: Path, data_dir: Path) -> np.ndarray:
    """Draws the sequences with the lowest J, a row each: the box, then masks of later frames.

    Args:
      results: output folder of evaluate.py, with Annotations/ and scores.json.
      data_dir: DAVIS 2016's folder.

    Returns:
      uint8 `[h, w, 3]`.

    Raises:
      InputError: if a file is missing.
    """
    try:
        scores = json.loads((results / "scores.json").read_text())
    except OSError:
        raise InputError(
            f"{results}: expected an output folder of evaluate.py, with scores.json"
        ) from None
    if scores["protocol"] != "davis2016":
        raise InputError(f"{results}: scored by {scores['protocol']}, expected davis2016")
    by_j = sorted(scores["sequences"], key=lambda name: scores["sequences"][name]["J"]["mean"])
    dataset = find_eval_videos(data_dir, "davis2016", split="all", names=by_j[:SEQUENCES])
    videos = {video.name: video for video in dataset.videos}
    truth = dict(dataset.pairs)
    pictures, captions = zip(
        *(
            pair
            for name in by_j[:SEQUENCES]
            for pair in sequence_pictures(videos[name], truth, results / "Annotations" / name)
        ),
        strict=True,
    )
    return strip(pictures, columns=FRAMES + 1, height=160, captions=captions)


def sequence_pictures(video: EvalVideo, truth: dict[Path, Path], predicted: Path):
    """Yields the pictures of one row, uint8 `[h, w, 3]`, with their captions."""
    first = read_image(video.frames[0])
    box = mask_to_box(video.starts[0].read())
    yield overlay(first, np.zeros(first.shape[:2], np.uint8), box), video.name
    last = len(video.frames) - 2  # the last one scored
    for k in np.linspace(last / FRAMES, last, FRAMES).round().astype(int).tolist():
        frame = video.frames[k]
        labels = foreground(read_labels(predicted / f"{frame.stem}.png"))
        j = jaccard(foreground(read_labels(truth[frame]))[None], labels[None])[0]
        yield overlay(read_image(frame), labels.astype(np.uint8)), f"{k}: J {j:.2f}"


def _rows(run: Path) -> list[dict]:
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except OSError:
        raise InputError(f"{run}: expected the workdir of a run, with metrics.jsonl") from None
    rows = [row for row in map(json.loads, lines) if "J_refined" in row]
    if not rows:
        raise InputError(f"{run / 'metrics.jsonl'} has no step with J_refined yet")
    return rows


if __name__ == "__main__":
    with exit_on_input_error():
        main()
