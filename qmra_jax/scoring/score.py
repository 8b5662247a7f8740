"""Scores a folder of predicted masks; see `protocols`."""

import concurrent.futures
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from qmra_jax.scoring.files import write_scores
from qmra_jax.scoring.protocols import Measured, average, summarise
from qmra_jax.scoring.tables import format_table
from qmra_jax.scoring.tasks import ScoringPlan, Task, plan_folder
from qmra_jax.scoring.youtube_vos import group_scores

__all__ = ["format_table", "plan_folder", "score_folder", "score_plan", "write_scores"]


def score_folder(
    truth: Path,
    predictions: Path,
    *,
    frames: bool = False,
    progress: bool = True,
    workers: int | None = None,
    **options: Any,
) -> dict:
    """Scores a folder of predicted masks against a dataset in the DAVIS or YouTube-VOS layout.

    Args:
      truth: root of the dataset.
      predictions: the folder of masks.
      frames: include J and F of every scored frame.
      progress: show a bar on standard error.
      workers: sequences scored at once; None is one per processor, at most 8.
      **options: `protocol`, `split`, `year`, `sequences` and `unseen` of `plan_folder`.

    Returns:
      The result of `score_plan`.

    Raises:
      InputError: if anything is missing, is not a mask, or does not fit the protocol; the message
        names the file or the sequence.
    """
    plan = plan_folder(truth, predictions, **options)
    return score_plan(plan, frames=frames, progress=progress, workers=workers)


def score_plan(
    plan: ScoringPlan, *, frames: bool = False, progress: bool = True, workers: int | None = None
) -> dict:
    """Scores what `plan_folder` found; the arguments are `score_folder`'s.

    Returns:
      A dictionary of
      - `J` and `F`, each `{"mean", "recall", "decay"}`, and `J&F`, the mean of their means;
      - `protocol`, `split` ("2017/val", "all") and `objects`, the number averaged over;
      - `subset`, `{"scored", "of"}`, if sequences of the split were left out;
      - `sequences`, `{name: result of score_sequence}`;
      - for youtube_vos the entries of `group_scores`, `category` and `seen` of each object, and
        `unscored`, the objects without a frame to score, as "VIDEO_1";
      - if asked for, `frames`: `{name: {"names": [...], "objects": {"1": {"J": [...], "F":
        [...]}}}}`, None where an object is not scored.

    Raises:
      InputError: if a file is not a mask or does not fit the protocol.
    """
    tasks = plan.tasks
    measured = _measure_all(tasks, workers or min(os.cpu_count() or 1, 8), progress)
    by_name = {
        task.name: summarise(objects, merged=plan.protocol == "davis2016")
        for task, objects in zip(tasks, measured, strict=True)
        if objects
    }
    for task, objects in zip(tasks, measured, strict=True):
        for label in task.objects.keys() & objects:
            by_name[task.name]["objects"][label] |= task.objects[label]
    if plan.protocol == "davis2016":
        averaged = list(by_name.values())
    else:
        averaged = [o for sequence in by_name.values() for o in sequence["objects"].values()]
    scores = {
        **average(averaged),
        "protocol": plan.protocol,
        "split": plan.split,
        "objects": len(averaged),
        "sequences": by_name,
    }
    if len(tasks) < plan.total:
        scores["subset"] = {"scored": len(tasks), "of": plan.total}
    if plan.protocol == "youtube_vos":
        scores |= group_scores(averaged)
        scores["unscored"] = [
            f"{task.name}_{label}"
            for task, objects in zip(tasks, measured, strict=True)
            for label in task.objects
            if label not in objects
        ]
    if frames:
        scores["frames"] = {
            task.name: _by_frame([path.stem for path in task.truth], objects)
            for task, objects in zip(tasks, measured, strict=True)
        }
    return scores


def _measure_all(tasks: list[Task], workers: int, progress: bool) -> list[dict[str, Measured]]:
    # Threads suffice, as decoding and array operations release the interpreter lock.
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        measured = pool.map(lambda task: task.measure(), tasks)
        bar = tqdm(measured, "score", len(tasks), unit="seq", disable=not progress)
        return list(bar)
    finally:
        pool.shutdown(cancel_futures=True)


def _by_frame(names: list[str], measured: Mapping[str, Measured]) -> dict:
    """J and F in the frames where any object is scored."""
    scored = sorted({frame for scores in measured.values() for frame in scores.frames})
    objects = {}
    for label, scores in measured.items():
        j, f = (dict(zip(scores.frames, x.tolist(), strict=True)) for x in (scores.j, scores.f))
        objects[label] = {"J": [j.get(k) for k in scored], "F": [f.get(k) for k in scored]}
    return {"names": [names[k] for k in scored], "objects": objects}
