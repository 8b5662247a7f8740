"""What counts when a sequence is scored: which frames, which objects, and what 255 means.

- `davis2017`: each object by itself, then the mean over all objects of all sequences. The objects
  are 1..n, n the highest label of the first mask; void (255) counts as background.
- `davis2016`: all objects merged into one, then the mean over sequences. Takes 0/255 masks, and the
  label maps of DAVIS 2017, whose void counts as background there too (`masks.foreground`).
- `youtube_vos`: each object of meta.json by itself, in the frames listed for it after its first
  (`youtube_vos`); the mean over the objects of seen and of unseen categories apart.

The two of DAVIS leave out the first and the last frame.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, foreground
from qmra_jax.scoring.metrics import boundary_f, jaccard, statistics

PROTOCOLS = ("davis2017", "davis2016", "youtube_vos")


@dataclasses.dataclass(frozen=True)
class Measured:
    """J and F of one object, frame by frame.

    Attributes:
      frames: the index in the sequence of each scored frame, in time order.
      j: float64 `[k]`, region similarity in each of them.
      f: float64 `[k]`, contour accuracy.
    """

    frames: tuple[int, ...]
    j: np.ndarray
    f: np.ndarray

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
    """Measures one sequence of DAVIS.

    Args:
      truth: uint8 `[t, h, w]`, the labels of every frame, t >= 3.
      prediction: uint8 `[t, h, w]`; its first and last frame are not looked at.
      protocol: "davis2017" or "davis2016".
      name: what messages call the sequence.
      frame_names: what messages call each of the t predicted masks.

    Returns:
      What each object has, by its label; davis2016 has but one, "1".

    Raises:
      InputError: if the truth has fewer than three frames, holds no object, or is a 0/255 mask
        given to davis2017; or if the prediction has more objects than the truth.
      ValueError: if the shapes differ.
    """
    if protocol not in ("davis2017", "davis2016"):
        raise InputError(f"protocol {protocol!r}: expected davis2017 or davis2016")
    if len(truth) < 3:
        raise InputError(
            f"{name} has {len(truth)} masks: the first and the last are not scored, so at least 3"
            " are needed"
        )
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(
            f"truth is {truth.shape} and prediction {prediction.shape}: expected equal [t, h, w]"
        )
    frames = tuple(range(1, len(truth) - 1))
    if protocol == "davis2016":
        return {"1": _measure(foreground(truth)[1:-1], prediction[1:-1] != 0, frames)}
    n = _count_objects(truth[0], name)
    scored, prediction = truth[1:-1], prediction[1:-1]
    highest = prediction.max(axis=(1, 2))
    if (highest > n).any():
        frame = 1 + int(np.argmax(highest > n))
        frame_name = frame_names[frame] if frame_names else f"frame {frame} of the prediction"
        raise InputError(
            f"{frame_name} holds label {highest[frame - 1]}, while the first mask of {name} has"
            f" objects 1 to {n} (0/255 masks are for --protocol davis2016)"
        )
    if ((scored > n) & (scored != VOID)).any():
        warnings.warn(
            f"{name}: objects beyond the {n} of its first mask enter later; as in the official"
            " toolkit they count as background",
            stacklevel=2,
        )
    return {
        str(label): _measure(scored == label, prediction == label, frames)
        for label in range(1, n + 1)
    }


def measure_objects(
    truth: np.ndarray,
    prediction: np.ndarray,
    objects: Mapping[int, Sequence[int]],
    *,
    name: str = "the sequence",
    frame_names: Sequence[str] | None = None,
) -> dict[str, Measured]:
    """Measures objects of which each has its own frames, as in YouTube-VOS.

    Args:
      truth: uint8 `[t, h, w]`, the labels of the frames that any object is scored in.
      prediction: uint8 `[t, h, w]`.
      objects: the indices into those frames in which each label is scored, at least one; an object
        without any is given as an empty sequence: it may be predicted, and is not measured.
      name: what messages call the sequence.
      frame_names: what messages call each of the t predicted masks.

    Returns:
      What each object with frames has, by its label.

    Raises:
      InputError: if a predicted label is none of the objects.
      ValueError: if the shapes differ.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(
            f"truth is {truth.shape} and prediction {prediction.shape}: expected equal [t, h, w]"
        )
    known = np.zeros(256, bool)
    known[[0, *objects]] = True
    for frame, labels in enumerate(prediction):
        present = np.bincount(labels.ravel(), minlength=256) > 0
        if unknown := np.flatnonzero(present & ~known).tolist():
            frame_name = frame_names[frame] if frame_names else f"frame {frame} of the prediction"
            raise InputError(
                f"{frame_name} holds label {unknown[0]}, while {name} has objects"
                f" {', '.join(map(str, sorted(objects)))}"
            )
    measured = {}
    for label, frames in sorted(objects.items()):
        if frames:
            scored = list(frames)
            measured[str(label)] = _measure(
                truth[scored] == label, prediction[scored] == label, tuple(scored)
            )
    return measured


def score_sequence(
    truth: np.ndarray,
    prediction: np.ndarray,
    protocol: str = "davis2017",
    *,
    name: str = "the sequence",
    frame_names: Sequence[str] | None = None,
) -> dict:
    """Scores one sequence of DAVIS; arguments and errors are `measure_sequence`'s.

    Returns:
      `{"J": {"mean", "recall", "decay"}, "F": {...}, "J&F"}`. For davis2017 these are means over
      the objects, and `objects` holds the same of each: `{"1": {...}, ...}`.
    """
    measured = measure_sequence(truth, prediction, protocol, name=name, frame_names=frame_names)
    return summarise(measured, merged=protocol == "davis2016")


def summarise(measured: Mapping[str, Measured], *, merged: bool = False) -> dict:
    """A sequence's scores from what its objects have; `merged`: without naming its one object."""
    objects = {label: values.scores() for label, values in measured.items()}
    return average(objects.values()) | ({} if merged else {"objects": objects})


def average(scores: Iterable[dict]) -> dict:
    """The mean of each number of some `{"J": {...}, "F": {...}}`, and `J&F` of those means."""
    scores = list(scores)
    j, f = (
        {name: float(np.mean([s[measure][name] for s in scores])) for name in scores[0][measure]}
        for measure in "JF"
    )
    return {"J": j, "F": f, "J&F": (j["mean"] + f["mean"]) / 2}


def _measure(truth: np.ndarray, prediction: np.ndarray, frames: tuple[int, ...]) -> Measured:
    return Measured(frames, jaccard(truth, prediction), boundary_f(truth, prediction))


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
