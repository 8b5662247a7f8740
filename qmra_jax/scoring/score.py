"""Scores a folder of predicted masks as the benchmarks' own tools do (`protocols`)."""

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
    **chosen: Any,
) -> dict:
    """Scores a folder of predicted masks against a dataset in the DAVIS or YouTube-VOS layout.

    Args:
      truth: root of the dataset.
      predictions: the folder of masks.
      frames: also gives J and F of every scored frame.
      progress: shows a bar on standard error.
      workers: how many sequences are scored at once; None takes one a processor, at most 8.
      **chosen: `protocol`, `split`, `year`, `sequences` and `unseen` of `plan_folder`.

    Returns:
      What `score_plan` gives.

    Raises:
      InputError: if anything is missing, is not a mask, or does not fit the protocol; the message
        names the file or the sequence.
    """
    plan = plan_folder(truth, predictions, **chosen)
    return score_plan(plan, frames=frames, progress=progress, workers=workers)


def score_plan(
    plan: ScoringPlan, *, frames: bool = False, progress: bool = True, workers: int | None = None
) -> dict:
    """Scores what `plan_folder` found; the arguments are `score_folder`'s.

    Returns:
      `J` and `F`, each `{"mean", "recall", "decay"}`, and `J&F`, the mean of their means;
      `protocol`; `split`, such as "2017/val" or "all"; `subset`, `{"scored", "of"}`, if some of its
      sequences were left out; `objects`, how many the mean is over; and `sequences`, `{name: what
      score_sequence gives}`. For youtube_vos also what `group_scores` gives, `category` and `seen`
      of each object, and `unscored`, the objects that have no frame to score, as "VIDEO_1".
      With `frames`: `frames`, `{name: {"names": [...], "objects": {"1": {"J": [...], "F":
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
    for task in tasks:
        for label, about in task.objects.items():
            if label in by_name.get(task.name, {}).get("objects", {}):
                by_name[task.name]["objects"][label] |= about
    if plan.protocol == "davis2016":
        averaged = list(by_name.values())
    else:
        averaged = [o for objects in by_name.values() for o in objects["objects"].values()]
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
        pairs = zip(tasks, measured, strict=True)
        scores["unscored"] = [
            f"{t.name}_{k}" for t, objects in pairs for k in t.objects.keys() - objects
        ]
    if frames:
        pairs = zip(tasks, measured, strict=True)
        scores["frames"] = {
            task.name: _by_frame([path.stem for path in task.truth], objects)
            for task, objects in pairs
        }
    return scores


def _measure_all(tasks: list[Task], workers: int, progress: bool) -> list[dict[str, Measured]]:
    # Threads, as decoding and the array work release the interpreter's lock.
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        with tqdm(total=len(tasks), desc="score", unit="seq", disable=not progress) as bar:
            measured = []
            for objects in pool.map(lambda task: task.measure(), tasks):
                measured.append(objects)
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    return measured


def _by_frame(names: list[str], measured: Mapping[str, Measured]) -> dict:
    """J and F of the frames that any object is scored in."""
    scored = sorted({frame for scores in measured.values() for frame in scores.frames})
    objects = {}
    for label, scores in measured.items():
        j, f = (dict(zip(scores.frames, x.tolist(), strict=True)) for x in (scores.j, scores.f))
        objects[label] = {"J": [j.get(k) for k in scored], "F": [f.get(k) for k in scored]}
    return {"names": [names[k] for k in scored], "objects": objects}
