"""Evaluates QMRA on DAVIS: from the tight box of each first mask to masks, scores and a table.

    python evaluate.py --weights=weights/qmra-small.safetensors --dataset=davis2016 \\
        --data_dir=DAVIS --split=val --output=results/val
    python evaluate.py --workdir=runs/small --dataset=davis2016 --data_dir=DAVIS \\
        --output=results/run
"""

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline import davis
from data_pipeline.decode import check_headers, read_image
from qmra_jax import boxes, checkpoint, errors, files, masks, scoring, weights
from qmra_jax.model import build_model
from qmra_jax.propagate import Propagator


def parse_args() -> argparse.Namespace:
    """The command line; `--help` shows it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="a .safetensors file")
    source.add_argument("--workdir", type=Path, help="a training run: its newest checkpoint")
    add = parser.add_argument
    add("--dataset", required=True, choices=("davis2016", "davis2017"))
    add("--data_dir", type=Path, required=True, help="root of the dataset, with JPEGImages/")
    add("--split", default="val", help="a list of ImageSets (default: val)")
    add("--output", type=Path, required=True, help="folder for Annotations/ and scores.json")
    add("--sequences", nargs="+", help="only these of the split")
    add(
        "--short_side",
        type=int,
        help="larger frames are shrunk to this many pixels on their shorter side for the network;"
        " 0 never shrinks (default: the size that the weights file says suits it, or else 0)",
    )
    add("--interval", type=int, default=10, help="every so many frames one stays in the memory")
    add("--overwrite", action="store_true", help="replace earlier results in the output folder")
    return parser.parse_args()


def load(args: argparse.Namespace):
    """The network and its variables, from a weights file or a training run."""
    if args.weights:
        module, variables, _ = weights.load(args.weights)
        return module, variables
    config, variables = checkpoint.restore_model(args.workdir)
    return build_model(config.model), variables


def first_boxes(path: Path, dataset: str) -> np.ndarray:
    """The objects' tight boxes in a first mask: int32 `[n, 4]`, x, y, width, height.

    DAVIS 2016 takes all labels for one object, DAVIS 2017 each for its own.

    Raises:
      InputError: if an object does not show, which leaves no box to start from.
    """
    labels = masks.read_labels(path)
    if dataset == "davis2016":
        objects = masks.foreground(labels)[None]
    else:
        present = labels[labels != masks.VOID]
        objects = labels == np.arange(1, present.max(initial=0) + 1)[:, None, None]
    missing = [str(number) for number, mask in enumerate(objects, 1) if not mask.any()]
    if missing or not len(objects):
        hint = "; 0/255 masks are --dataset=davis2016's" if (labels == masks.VOID).any() else ""
        raise errors.InputError(
            f"mask {path} shows no object {', '.join(missing) or 'at all'}: expected every object"
            f" in the first frame{hint}"
        )
    return boxes.mask_to_box(objects)


def claim_output(args: argparse.Namespace) -> Path:
    """The folder for masks, known to be empty or ours to replace."""
    annotations, scores = args.output / "Annotations", args.output / "scores.json"
    if args.output.resolve() == args.data_dir.resolve():
        raise errors.InputError(
            f"output {args.output} is the dataset itself, whose masks would be replaced: give"
            " another --output"
        )
    used = scores.exists() or (annotations.is_dir() and any(annotations.iterdir()))
    if used and not args.overwrite:
        raise errors.InputError(
            f"output {args.output} holds results already: give another --output, or --overwrite"
        )
    files.make_folder(annotations)
    return annotations


def segment(propagator: Propagator, sequence: davis.Sequence, start: np.ndarray, folder: Path, bar):
    """Writes a sequence's masks; gives the seconds of each step that did not compile first."""
    seconds = []
    for number, (frame, mask) in enumerate(zip(sequence.frames, sequence.annotations, strict=True)):
        image = read_image(frame)
        try:
            result = propagator.step(image) if number else propagator.start(image, start)
        except errors.InputError as error:
            raise errors.InputError(f"{frame}: {error}") from None
        masks.write_labels(folder / mask.name, result.labels)
        if number and result.seconds is not None:
            seconds.append(result.seconds)
        bar.update()
    return seconds


def evaluate(args: argparse.Namespace) -> dict:
    """Segments and scores; gives what `scores.json` holds."""
    sequences = davis.find_sequences(
        args.data_dir,
        year=args.dataset.removeprefix("davis"),
        split=args.split,
        names=args.sequences,
    )
    if short := [s.name for s in sequences if len(s.frames) < 3]:
        raise errors.InputError(
            f"sequence {', '.join(short)}: fewer than 3 frames, and the first and the last are not"
            " scored; leave it out of the split's list or name others with --sequences"
        )
    check_headers(pair for s in sequences for pair in zip(s.frames, s.annotations, strict=True))
    starts = {s.name: first_boxes(s.annotations[0], args.dataset) for s in sequences}
    annotations = claim_output(args)
    module, variables = load(args)
    short_side = args.short_side
    if short_side is None and args.weights:
        short_side = weights.suited_short_side(args.weights)
    propagator = Propagator(
        module, variables, interval=args.interval, short_side=short_side or None
    )
    seconds, began = {}, time.perf_counter()
    with tqdm(total=sum(len(s.frames) for s in sequences), unit="frame", desc="segment") as bar:
        for sequence in sequences:
            folder = annotations / sequence.name
            seconds[sequence.name] = segment(
                propagator, sequence, starts[sequence.name], folder, bar
            )
    wall = time.perf_counter() - began

    scores = scoring.score_folder(
        args.data_dir,
        args.output,
        protocol=args.dataset,
        split=args.split,
        sequences=args.sequences,
    )
    for name, times in seconds.items():
        if times:
            scores["sequences"][name]["fps"] = len(times) / sum(times)
    every = [time for times in seconds.values() for time in times]
    if every:
        scores["fps"] = len(every) / sum(every)
    scores["wall_seconds"] = wall
    scores["start"] = "box"
    scores["short_side"] = short_side or None
    scores["interval"] = args.interval
    return scores


def main() -> None:
    """Runs `evaluate`, prints the table and writes `scores.json`."""
    args = parse_args()
    with errors.exit_on_input_error():
        scores = evaluate(args)
        print(scoring.format_table(scores))
        print(
            "fps: of the jitted step with its result on the host, compiling and disk left out;"
            f" all in all {scores['wall_seconds']:.0f} s"
        )
        print(scoring.write_scores(scores, args.output))


if __name__ == "__main__":
    main()
