"""The sequences to score: which files belong to each, known to be there before any is read."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from data_pipeline.datasets import scored_videos
from data_pipeline.datasets.davis import (
    Sequence,
    available_splits,
    find_sequences,
    folders_in,
    read_split,
    shortened,
)
from qmra_jax.errors import InputError
from qmra_jax.masks import read_labels
from qmra_jax.scoring import youtube_vos
from qmra_jax.scoring.protocols import PROTOCOLS, Measured, measure_objects, measure_sequence


@dataclasses.dataclass(frozen=True)
class Task:
    """One sequence to score.

    Attributes:
      name: of the sequence.
      truth: its true masks, in time order; what `measure` gives means the k-th by its index.
      predicted: the folder of its predicted masks.
      measure: reads the masks and gives what the objects have.
      objects: what else is known of each object, by its label: YouTube-VOS's `category`, `seen`.
    """

    name: str
    truth: tuple[Path, ...]
    predicted: Path
    measure: Callable[[], dict[str, Measured]]
    objects: Mapping[str, dict] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """What to score.

    Attributes:
      protocol: by which.
      tasks: one a sequence.
      split: its name, such as "2017/val", "train" or "all".
      total: how many sequences the split has, scored or not.
    """

    protocol: str
    tasks: list[Task]
    split: str
    total: int


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
      truth: root of the dataset; only its annotations and the split's list are read (of
        YouTube-VOS meta.json and the names of the frames as well).
      predictions: holds `SEQUENCE/00000.png`, or `Annotations/SEQUENCE/00000.png`. Masks of the
        frames that are not scored may be missing; files that the truth lacks are not read.
      protocol: "davis2017", "davis2016" or "youtube_vos".
      split: of the dataset; None scores every sequence there is (of YouTube-VOS: `truth` is the
        split's folder itself).
      year: of the split's list; None takes the protocol's own, or another that has such a list.
      sequences: only these of the split.
      unseen: YouTube-VOS's categories that training lacked; None for all but those of the official
        training set.

    Raises:
      InputError: if anything is missing or does not fit the protocol; the message names the file or
        the sequence.
    """
    truth, predictions = Path(truth), Path(predictions)
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if protocol == "youtube_vos":
        return _youtube_vos_plan(truth, predictions, split, sequences, unseen)
    return _davis_plan(truth, predictions, protocol, split, year, sequences)


def _davis_plan(
    truth: Path,
    predictions: Path,
    protocol: str,
    split: str | None,
    year: str | None,
    names: Collection[str] | None,
) -> ScoringPlan:
    year = year if year is not None else _year_of_split(truth, protocol, split)
    sequences = find_sequences(truth, year=year, split=split, need_frames=False, names=names)
    total = len(sequences)
    if names is not None:
        holder = sequences[0].annotations[0].parent.parent
        total = len(read_split(truth, year, split) if split else folders_in(holder))

    def task(sequence: Sequence) -> Task:
        files = _predicted_files(sequence.name, sequence.annotations[1:-1], predictions)
        return Task(
            sequence.name,
            sequence.annotations,
            predicted_folder(sequence.name, predictions),
            lambda: _measure_davis(sequence, files, protocol),
        )

    label = "all" if split is None else f"{year}/{split}".lstrip("/")
    return ScoringPlan(protocol, [task(sequence) for sequence in sequences], label, total)


def _youtube_vos_plan(
    truth: Path,
    predictions: Path,
    split: str | None,
    names: Collection[str] | None,
    unseen: Collection[str] | None,
) -> ScoringPlan:
    videos, total = scored_videos.find_videos(truth, split, names)

    def task(video) -> Task:
        masks, objects = scored_videos.scored_frames(video)
        files = _predicted_files(video.name, masks, predictions)
        return Task(
            video.name,
            masks,
            predicted_folder(video.name, predictions),
            lambda: _measure_youtube(video.name, masks, files, objects),
            {
                str(o.id): youtube_vos.about(
                    o.category, unseen, f"object {o.id} of video {video.name}"
                )
                for o in video.objects
            },
        )

    return ScoringPlan("youtube_vos", [task(video) for video in videos], split or "all", total)


def _measure_davis(sequence: Sequence, files: list[Path], protocol: str) -> dict[str, Measured]:
    truth = [read_labels(path) for path in sequence.annotations]
    predicted = [read_labels(path) for path in files]
    _check_sizes([*sequence.annotations, *files], [*truth, *predicted])
    # The two frames that are not scored need no prediction.
    unread = np.zeros_like(truth[0])
    return measure_sequence(
        np.stack(truth),
        np.stack([unread, *predicted, unread]),
        protocol,
        name=f"sequence {sequence.name}",
        frame_names=["", *(f"mask {path}" for path in files), ""],
    )


def _measure_youtube(
    name: str, masks: tuple[Path, ...], files: list[Path], objects: Mapping[int, tuple[int, ...]]
) -> dict[str, Measured]:
    truth = [read_labels(path) for path in masks]
    predicted = [read_labels(path) for path in files]
    _check_sizes([*masks, *files], [*truth, *predicted])
    return measure_objects(
        np.stack(truth),
        np.stack(predicted),
        objects,
        name=f"video {name}",
        frame_names=[f"mask {path}" for path in files],
    )


def _check_sizes(paths: list[Path], maps: list[np.ndarray]) -> None:
    height, width = maps[0].shape
    for path, labels in zip(paths, maps, strict=True):
        if labels.shape != (height, width):
            raise InputError(
                f"mask {path} is {labels.shape[1]}x{labels.shape[0]}, while {paths[0]} is"
                f" {width}x{height}: expected one size a sequence (write predictions at the size"
                " of the annotations)"
            )


def _year_of_split(truth: Path, protocol: str, split: str | None) -> str:
    """The protocol's own year, unless only another one has such a list."""
    usual_year = protocol.removeprefix("davis")
    lists = [split_file.rpartition("/") for split_file in available_splits(truth)]
    years = ["2016" if year == "480p" else year for year, _, name in lists if name == split]
    return usual_year if usual_year in years or not years else years[0]


def predicted_folder(name: str, predictions: Path) -> Path:
    """The folder of one sequence's masks among the predictions.

    Raises:
      InputError: if there is none, telling what was found.
    """
    parents = [predictions, predictions / "Annotations", predictions / "Annotations" / "480p"]
    folder = next((p / name for p in parents if (p / name).is_dir()), None)
    if folder is None:
        holder = next((p for p in reversed(parents) if p.is_dir()), None)
        found = shortened(folders_in(holder)) or "no folders" if holder else "no such folder"
        raise InputError(
            f"predictions {predictions}: expected masks of sequence {name} in"
            f" {name}/ or Annotations/{name}/; found {found}"
        )
    return folder


def _predicted_files(name: str, scored: tuple[Path, ...], predictions: Path) -> list[Path]:
    """The files of the scored frames, known to exist."""
    folder = predicted_folder(name, predictions)
    files = [folder / mask.name for mask in scored]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise InputError(
            f"predictions {folder}: {len(missing)} of {len(files)} scored frames have no mask:"
            f" {shortened(missing)}"
        )
    return files
