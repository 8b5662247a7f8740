"""How DAVIS scores a sequence: its two semi-supervised protocols.

- `davis2017`: each object by itself, then the mean over all objects of all sequences. The objects
  are 1..n, n the highest label of the first mask; void (255) counts as background.
- `davis2016`: all objects merged into one, then the mean over sequences. Takes 0/255 masks, and the
  label maps of DAVIS 2017, whose void counts as background there too (`masks.foreground`).

Both leave out the first and the last frame.
"""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, foreground
from qmra_jax.metrics import boundary_f, jaccard, statistics

PROTOCOLS = ("davis2017", "davis2016")


def check_protocol(protocol: str) -> None:
    """Raises an InputError unless there is such a protocol."""
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")


def score_sequence(
    truth: np.ndarray,
    prediction: np.ndarray,
    protocol: str = "davis2017",
    *,
    name: str = "the sequence",
    frame_names: Sequence[str] | None = None,
) -> dict:
    """Scores one sequence.

    Args:
      truth: uint8 `[t, h, w]`, the labels of every frame, t >= 3.
      prediction: uint8 `[t, h, w]`; its first and last frame are not looked at.
      protocol: "davis2017" or "davis2016".
      name: what messages call the sequence.
      frame_names: what messages call each of the t predicted masks.

    Returns:
      `{"J": {"mean", "recall", "decay"}, "F": {...}, "J&F"}`. For davis2017 these are means over
      the objects, and `objects` holds the same of each: `{"1": {...}, ...}`.

    Raises:
      InputError: if the truth has fewer than three frames, holds no object, or is a 0/255 mask
        given to davis2017; or if the prediction has more objects than the truth.
      ValueError: if the shapes differ.
    """
    check_protocol(protocol)
    if len(truth) < 3:
        raise InputError(
            f"{name} has {len(truth)} masks: the first and the last are not scored, so at least 3"
            " are needed"
        )
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(
            f"truth is {truth.shape} and prediction {prediction.shape}: expected equal [t, h, w]"
        )
    if protocol == "davis2016":
        return _score_object(foreground(truth)[1:-1], prediction[1:-1] != 0)
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
    objects = {
        str(label): _score_object(scored == label, prediction == label) for label in range(1, n + 1)
    }
    return {**average(objects.values()), "objects": objects}


def average(scores: Iterable[dict]) -> dict:
    """The mean of each number of some `{"J": {...}, "F": {...}}`, and `J&F` of those means."""
    scores = list(scores)
    j, f = (
        {name: float(np.mean([s[measure][name] for s in scores])) for name in scores[0][measure]}
        for measure in "JF"
    )
    return {"J": j, "F": f, "J&F": (j["mean"] + f["mean"]) / 2}


def _score_object(truth: np.ndarray, prediction: np.ndarray) -> dict:
    measured = {"J": jaccard(truth, prediction), "F": boundary_f(truth, prediction)}
    return average([{measure: statistics(values) for measure, values in measured.items()}])


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
