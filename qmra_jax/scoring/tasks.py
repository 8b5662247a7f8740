"""Plans scoring: finds the files of every sequence before any is read."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data_pipeline.datasets import scored_videos
from data_pipeline.datasets.davis import (
    available_splits,
    find_sequences,
    folders_in,
    read_split,
    shortened,
)
from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.masks import read_labels
from qmra_jax.scoring import youtube_vos
from qmra_jax.scoring.protocols import PROTOCOLS, Measured, measure_objects, measure_sequence


@dataclasses.dataclass(frozen=True)
class Task:
    """One sequence to score."""

    name: str
    truth: tuple[Path, ...]  # true masks, in time order; `Measured.frames` are indices into them
    predicted: Path  # folder of the predicted masks
    measure: Callable[[], dict[str, Measured]]  # reads the masks and measures each label
    objects: Mapping[str, dict] = dataclasses.field(default_factory=dict)
    """YouTube-VOS's `category` and `seen` by label."""


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """What to score."""

    protocol: str  # one of `PROTOCOLS`
    tasks: list[Task]  # one per sequence
    split: str  # its name, such as "2017/val", "train" or "all"
    total: int  # number of sequences in the split, scored or not


def plan_folder(
    truth: Path,
    predictions: Path,
    *,
    protocol: str = "davis2017",
    split: str | None = "val",
    year: str | None = None,
    sequences: Collection[str] | None = None,
    unseen: Collection[str] | None = None,
) -> ScoringPlan:
    """Finds every file that scoring will read.

    Args:
      truth: root of the dataset; only its annotations and split lists are read (of YouTube-VOS
        also meta.json and the names of the frames).
      predictions: holds `SEQUENCE/00000.png` or `Annotations/SEQUENCE/00000.png`. Frames that are
        not scored need no mask; surplus files are ignored.
      protocol: one of `PROTOCOLS`.
      split: of the dataset; None scores all sequences (of YouTube-VOS: `truth` is the split's
        folder itself).
      year: of the split's list; None is the protocol's own, or else the one that has such a list.
      sequences: subset of the split.
      unseen: YouTube-VOS's categories absent from training; None is all but those of the official
        training set.

    Raises:
      InputError: if anything is missing or does not fit the protocol; the message names the file or
        the sequence.
    """
    truth, predictions = Path(truth), Path(predictions)
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if protocol == "youtube_vos":
        return _plan_youtube_vos(truth, predictions, split, sequences, unseen)
    year = _year_of_split(truth, protocol, split) if year is None else year
    chosen = find_sequences(truth, year=year, split=split, need_frames=False, names=sequences)
    total = len(chosen)
    if sequences is not None:
        folder = chosen[0].annotations[0].parent.parent
        total = len(read_split(truth, year, split) if split else folders_in(folder))
    tasks = []
    for sequence in chosen:
        masks = sequence.annotations
        folder, files = _predicted_masks(sequence.name, masks[1:-1], predictions)
        measure = partial(_measure_davis, sequence.name, masks, files, protocol)
        tasks.append(Task(sequence.name, masks, folder, measure))
    label = "all" if split is None else f"{year}/{split}".lstrip("/")
    return ScoringPlan(protocol, tasks, label, total)


def _plan_youtube_vos(
    truth: Path,
    predictions: Path,
    split: str | None,
    names: Collection[str] | None,
    unseen: Collection[str] | None,
) -> ScoringPlan:
    videos, total = scored_videos.find_videos(truth, split, names)
    tasks = []
    for video in videos:
        masks, objects = scored_videos.scored_frames(video)
        folder, files = _predicted_masks(video.name, masks, predictions)
        categories = {
            str(o.id): youtube_vos.about(o.category, unseen, f"object {o.id} of video {video.name}")
            for o in video.objects
        }
        measure = partial(_measure_youtube_vos, video.name, masks, files, objects)
        tasks.append(Task(video.name, masks, folder, measure, categories))
    return ScoringPlan("youtube_vos", tasks, split or "all", total)


def _measure_davis(
    name: str, masks: tuple[Path, ...], files: list[Path], protocol: str
) -> dict[str, Measured]:
    truth, predicted = _read_masks(masks, files)
    return measure_sequence(
        truth,
        np.pad(predicted, ((1, 1), (0, 0), (0, 0))),  # the first and last frame are not scored
        protocol,
        name=f"sequence {name}",
        frame_names=["", *(f"mask {path}" for path in files), ""],
    )


def _measure_youtube_vos(
    name: str, masks: tuple[Path, ...], files: list[Path], objects: Mapping[int, tuple[int, ...]]
) -> dict[str, Measured]:
    truth, predicted = _read_masks(masks, files)
    frame_names = [f"mask {path}" for path in files]
    return measure_objects(truth, predicted, objects, name=f"video {name}", frame_names=frame_names)


def _read_masks(masks: tuple[Path, ...], files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted labels, uint8 `[t, h, w]` each."""
    labels = [read_labels(path) for path in (*masks, *files)]
    for path, read in zip((*masks, *files), labels, strict=True):
        if read.shape != labels[0].shape:
            raise InputError(
                f"mask {path} is {size_text(read.shape)}, while {masks[0]} is"
                f" {size_text(labels[0].shape)}: expected one size per sequence (write predictions"
                " at the size of the annotations)"
            )
    n = len(masks)
    return np.stack(labels[:n]), np.reshape(labels[n:], (len(files), *labels[0].shape))


def _year_of_split(truth: Path, protocol: str, split: str | None) -> str:
    """The protocol's own year, unless only another one has such a list."""
    own_year = protocol.removeprefix("davis")
    lists = [split_file.rpartition("/") for split_file in available_splits(truth)]
    years = ["2016" if year == "480p" else year for year, _, name in lists if name == split]
    return own_year if own_year in years or not years else years[0]


def _predicted_masks(
    name: str, scored: tuple[Path, ...], predictions: Path
) -> tuple[Path, list[Path]]:
    """The folder of a sequence's predictions, and the existing files of its scored frames.

    Raises:
      InputError: if the folder or a file is missing.
    """
    parents = [predictions, predictions / "Annotations", predictions / "Annotations" / "480p"]
    folder = next((p / name for p in parents if (p / name).is_dir()), None)
    if folder is None:
        existing = next((p for p in reversed(parents) if p.is_dir()), None)
        found = shortened(folders_in(existing)) or "no folders" if existing else "no such folder"
        raise InputError(
            f"predictions {predictions}: expected masks of sequence {name} in"
            f" {name}/ or Annotations/{name}/; found {found}"
        )
    files = [folder / mask.name for mask in scored]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise InputError(
            f"predictions {folder}: {len(missing)} of {len(files)} scored frames have no mask:"
            f" {shortened(missing)}"
        )
    return folder, files
