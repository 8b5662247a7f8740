"""Benchmark protocols: which frames and objects are scored, and what 255 means.

- `davis2017`: each object separately, averaged over all objects of all sequences. The objects are
  1..n, with n the highest label of the first mask; void (255) counts as background.
- `davis2016`: all objects merged into one, averaged over sequences. Takes 0/255 masks, and label
  maps of DAVIS 2017, whose void counts as background (`masks.foreground`).
- `youtube_vos`: each object of meta.json separately, in its listed frames after the first
  (`data_pipeline.datasets.scored_videos`), averaged over seen and unseen categories.

Both DAVIS protocols leave out the first and the last frame.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, foreground, label_counts
from qmra_jax.scoring.metrics import boundary_f, jaccard, statistics

PROTOCOLS = ("davis2017", "davis2016", "youtube_vos")


@dataclasses.dataclass(frozen=True)
class Measured:
    """J and F of one object in each scored frame."""

    frames: tuple[int, ...]  # indices of the scored frames in the sequence, ascending
    j: np.ndarray  # float64 `[k]`, region similarity
    f: np.ndarray  # float64 `[k]`, contour accuracy

    def scores(self) -> dict:
        """`{"J": {"mean", "recall", "decay"}, "F": {...}, "J&F"}` over the frames."""
        return average([{"J": statistics(self.j), "F": statistics(self.f)}])


def measure_sequence(
    truth: np.ndarray,
    prediction: np.ndarray,
    protocol: str = "davis2017",
    *,
    name: str = "the sequence",
    frame_names: Sequence[str] | None = None,
) -> dict[str, Measured]:
    """Measures one DAVIS sequence.

    Args:
      truth: uint8 `[t, h, w]`, the labels of every frame, t >= 3.
      prediction: uint8 `[t, h, w]`; its first and last frame are ignored.
      protocol: "davis2017" or "davis2016".
      name: what messages call the sequence.
      frame_names: what messages call each of the t predicted masks.

    Returns:
      The measures by label; davis2016 has the label "1" only.

    Raises:
      InputError: if the truth has fewer than three frames, no objects, or is a 0/255 mask
        given to davis2017; or if the prediction has objects that the truth lacks.
      ValueError: if the shapes differ.
    """
    if protocol not in ("davis2017", "davis2016"):
        raise InputError(f"protocol {protocol!r}: expected davis2017 or davis2016")
    if len(truth) < 3:
        raise InputError(
            f"{name} has {len(truth)} masks: expected at least 3, as the first and last are not"
            " scored"
        )
    scored = tuple(range(1, len(truth) - 1))
    if protocol == "davis2016":
        merged, objects = foreground(truth).view(np.uint8), {1: scored}
        return measure_objects(merged, (prediction != 0).view(np.uint8), objects)
    n = _count_objects(truth[0], name)
    if ((truth[1:-1] > n) & (truth[1:-1] != VOID)).any():
        warnings.warn(
            f"{name}: objects that enter after the first mask, which has {n}, count as background,"
            " as in the official toolkit",
            stacklevel=2,
        )
    objects = dict.fromkeys(range(1, n + 1), scored)
    return measure_objects(truth, prediction, objects, name=name, frame_names=frame_names)


def measure_objects(
    truth: np.ndarray,
    prediction: np.ndarray,
    objects: Mapping[int, Sequence[int]],
    *,
    name: str = "the sequence",
    frame_names: Sequence[str] | None = None,
) -> dict[str, Measured]:
    """Measures objects that are each scored in frames of their own, as in YouTube-VOS.

    Args:
      truth: uint8 `[t, h, w]` labels.
      prediction: uint8 `[t, h, w]` labels.
      objects: the indices of the frames in which each label is scored; an object without frames
        may be predicted, but is not measured.
      name: what messages call the sequence.
      frame_names: what messages call each of the t predicted masks.

    Returns:
      The measures of the objects with frames, by label.

    Raises:
      InputError: if a scored frame holds a predicted label that is not one of the objects.
      ValueError: if the shapes differ.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(
            f"truth is {truth.shape} and prediction {prediction.shape}: expected equal [t, h, w]"
        )
    for frame in sorted(set().union(*objects.values())):
        present = np.flatnonzero(label_counts(prediction[frame])).tolist()
        if unknown := sorted(set(present) - {0, *objects}):
            frame_name = frame_names[frame] if frame_names else f"frame {frame} of the prediction"
            known = ", ".join(map(str, sorted(objects)))
            raise InputError(
                f"{frame_name} holds label {unknown[0]}, while {name} has objects {known}"
                " (0/255 masks are for --protocol davis2016)"
            )
    measured = {}
    for label, scored in sorted(objects.items()):
        if scored:
            pair = (truth[list(scored)] == label, prediction[list(scored)] == label)
            measured[str(label)] = Measured(tuple(scored), jaccard(*pair), boundary_f(*pair))
    return measured


def score_sequence(
    truth: np.ndarray,
    prediction: np.ndarray,
    protocol: str = "davis2017",
    *,
    name: str = "the sequence",
    frame_names: Sequence[str] | None = None,
) -> dict:
    """Scores one DAVIS sequence; arguments and errors are those of `measure_sequence`.

    Returns:
      `{"J": {"mean", "recall", "decay"}, "F": {...}, "J&F"}`. For davis2017 these are means over
      the objects, and `objects` holds the same for each: `{"1": {...}, ...}`.
    """
    measured = measure_sequence(truth, prediction, protocol, name=name, frame_names=frame_names)
    return summarise(measured, merged=protocol == "davis2016")


def summarise(measured: Mapping[str, Measured], *, merged: bool = False) -> dict:
    """A sequence's mean scores, with those of each object unless all are `merged` into one."""
    objects = {label: values.scores() for label, values in measured.items()}
    return average(objects.values()) | ({} if merged else {"objects": objects})


def average(scores: Iterable[dict]) -> dict:
    """The mean of each number of several `{"J": {...}, "F": {...}}`, and `J&F` of these means."""
    scores = list(scores)
    j, f = (
        {name: float(np.mean([s[measure][name] for s in scores])) for name in scores[0][measure]}
        for measure in "JF"
    )
    return {"J": j, "F": f, "J&F": (j["mean"] + f["mean"]) / 2}


def _count_objects(first_mask: np.ndarray, name: str) -> int:
    foreground(first_mask)  # refuses a blended 0/255 mask, whose greys would count as objects
    n = int(first_mask[first_mask != VOID].max(initial=0))
    if n == 0 and (first_mask == VOID).any():
        raise InputError(
            f"the first mask of {name} holds 0 and 255 only, and 255 is void in DAVIS 2017:"
            " expected objects 1..n; score 0/255 masks with --protocol davis2016"
        )
    if n == 0:
        raise InputError(f"the first mask of {name} is empty: expected objects 1..n")
    return n
