"""Scores a folder of predicted masks as the official DAVIS toolkit does (`qmra_jax.protocols`)."""

import concurrent.futures
import itertools
import json
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline.davis import Sequence, available_splits, find_sequences, folders_in, shortened
from qmra_jax.errors import InputError
from qmra_jax.files import written_whole
from qmra_jax.masks import read_labels
from qmra_jax.protocols import average, check_protocol, score_sequence


def score_folder(
    truth: Path,
    predictions: Path,
    *,
    protocol: str = "davis2017",
    split: str | None = "val",
    year: str | None = None,
    sequences: Collection[str] | None = None,
    progress: bool = True,
    workers: int | None = None,
) -> dict:
    """Scores a folder of predicted masks against a dataset in the DAVIS layout.

    Args:
      truth: root of the dataset; only its annotations and the split's list are read.
      predictions: holds `SEQUENCE/00000.png`, or `Annotations/SEQUENCE/00000.png`. Masks of the
        first and the last frame may be missing; files that the truth lacks are not read.
      protocol: "davis2017" or "davis2016".
      split: of the dataset; None scores every sequence there is.
      year: of the split's list; None takes the protocol's own, or another that has such a list.
      sequences: only these of the split.
      progress: shows a bar on standard error.
      workers: how many sequences are scored at once; None takes one a processor, at most 8.

    Returns:
      `J` and `F`, each `{"mean", "recall", "decay"}`, and `J&F`, the mean of their means;
      `protocol`; `split`, such as "2017/val" or "all"; `objects`, how many the mean is over; and
      `sequences`, `{name: what score_sequence gives}`.

    Raises:
      InputError: if anything is missing, is not a mask, or does not fit the protocol; the message
        names the file or the sequence.
    """
    truth, predictions = Path(truth), Path(predictions)
    check_protocol(protocol)
    year = year or _year_of_split(truth, protocol, split)
    found = find_sequences(truth, year=year, split=split, need_frames=False, names=sequences)
    files = [_predicted_files(sequence, predictions) for sequence in found]
    # Threads, as decoding and the array work release the interpreter's lock.
    pool = concurrent.futures.ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8))
    try:
        with tqdm(total=len(found), desc="score", unit="seq", disable=not progress) as bar:
            by_name = {}
            scored = pool.map(_score_files, found, files, itertools.repeat(protocol))
            for sequence, scores in zip(found, scored, strict=True):
                by_name[sequence.name] = scores
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    if protocol == "davis2017":
        averaged = [o for scores in by_name.values() for o in scores["objects"].values()]
    else:
        averaged = list(by_name.values())
    return {
        **average(averaged),
        "protocol": protocol,
        "split": "all" if split is None else f"{year}/{split}",
        "objects": len(averaged),
        "sequences": by_name,
    }


def write_scores(scores: dict, folder: Path) -> Path:
    """Writes `scores.json` into a folder, whole, in place of an older one.

    Args:
      scores: of `score_folder`, with whatever else was measured, such as `fps`.
      folder: made if need be.

    Returns:
      The path of the file.
    """
    path = Path(folder) / "scores.json"
    text = json.dumps(scores, indent=2, allow_nan=False) + "\n"
    with written_whole(path) as part:
        part.write_text(text)
    return path


def format_table(scores: dict) -> str:
    """The scores as an aligned Markdown table: a row for each sequence, then the mean.

    Args:
      scores: of `score_folder`; a column of frames a second is added where `fps` was, either for
        the whole or within sequences.
    """
    rows = [*scores["sequences"].items(), (_mean_name(scores), scores)]
    with_fps = any("fps" in row for _, row in rows)
    statistics = [f"{measure} {name}" for measure in "JF" for name in ("mean", "recall", "decay")]
    table = [["sequence", *statistics, "J&F"] + ["fps"] * with_fps]
    for label, row in rows:
        values = [*row["J"].values(), *row["F"].values(), row["J&F"]]
        fps = [f"{row['fps']:.1f}" if "fps" in row else ""] * with_fps
        table.append([label, *(f"{value:.3f}" for value in values), *fps])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])} |"
        for cells in [table[0], rule, *table[1:]]
    )


def _mean_name(scores: dict) -> str:
    # The mean over objects is not the mean of the rows above it, which are sequences.
    return f"mean of {scores['objects']} objects" if scores["protocol"] == "davis2017" else "mean"


def _year_of_split(truth: Path, protocol: str, split: str | None) -> str:
    """The protocol's own year, unless only another one has such a list."""
    own = protocol.removeprefix("davis")
    years = [
        found.split("/")[0] for found in available_splits(truth) if found.endswith(f"/{split}")
    ]
    years = ["2016" if year == "480p" else year for year in years]
    return own if own in years or not years else years[0]


def _predicted_files(sequence: Sequence, predictions: Path) -> list[Path]:
    """The files of the scored frames, known to exist."""
    parents = [predictions, predictions / "Annotations", predictions / "Annotations" / "480p"]
    folder = next((p / sequence.name for p in parents if (p / sequence.name).is_dir()), None)
    if folder is None:
        holder = next((p for p in reversed(parents) if p.is_dir()), None)
        found = shortened(folders_in(holder)) or "no folders" if holder else "no such folder"
        raise InputError(
            f"predictions {predictions}: expected masks of sequence {sequence.name} in"
            f" {sequence.name}/ or Annotations/{sequence.name}/; found {found}"
        )
    files = [folder / mask.name for mask in sequence.annotations[1:-1]]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise InputError(
            f"predictions {folder}: {len(missing)} of {len(files)} scored frames have no mask:"
            f" {shortened(missing)}"
        )
    return files


def _score_files(sequence: Sequence, files: list[Path], protocol: str) -> dict:
    truth = [read_labels(path) for path in sequence.annotations]
    predicted = [read_labels(path) for path in files]
    size = truth[0].shape
    for path, labels in zip((*sequence.annotations, *files), (*truth, *predicted), strict=True):
        if labels.shape != size:
            raise InputError(
                f"mask {path} is {labels.shape[1]}x{labels.shape[0]}, while"
                f" {sequence.annotations[0]} is {size[1]}x{size[0]}: expected one size a sequence"
                " (write predictions at the size of the annotations)"
            )
    # The two frames that are not scored need no prediction.
    unread = np.zeros(size, np.uint8)
    return score_sequence(
        np.stack(truth),
        np.stack([unread, *predicted, unread]),
        protocol,
        name=f"sequence {sequence.name}",
        frame_names=["", *(f"mask {path}" for path in files), ""],
    )
