"""Region similarity J and contour accuracy F of DAVIS, and their mean, recall and decay.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016. The tests compare with numbers of the official toolkit,
davisvideochallenge/davis2017-evaluation.
"""

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np

BOUNDARY_TOLERANCE = 0.008
"""Largest distance at which boundary pixels match, as a share of the frame's diagonal."""

DECAY_BINS = 4


def jaccard(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Region similarity J: intersection over union, 1 where both masks are empty.

    Args:
      truth: `[..., h, w]`, non-zero on the object.
      prediction: of the same shape.

    Returns:
      float64 `[...]` in [0, 1].

    Raises:
      ValueError: if the shapes differ.
    """
    return _each(_jaccard, truth, prediction)


def boundary_f(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Contour accuracy F: the harmonic mean of the precision and recall of boundary pixels.

    A boundary pixel matches if the other boundary comes within `boundary_radius` pixels of it. F is
    0 where one mask alone has a boundary and 1 where neither has. Arguments and result are those of
    `jaccard`.
    """
    return _each(_boundary_f, truth, prediction)


def boundary_radius(height: int, width: int) -> int:
    """The tolerance of F in pixels, such as 8 at 480x854."""
    return math.ceil(BOUNDARY_TOLERANCE * math.hypot(height, width))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """The one-pixel boundary of a mask: bool `[h, w]` to bool `[h, w]`.

    A boundary pixel differs from its neighbour to the east, south or south-east, where there is
    one; the edge of the frame is not a boundary.
    """
    east = mask[:, :-1] ^ mask[:, 1:]
    south = mask[:-1] ^ mask[1:]
    boundary = np.zeros_like(mask)
    boundary[:, :-1] = east
    boundary[:-1] |= south
    boundary[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return boundary


def statistics(values: np.ndarray) -> dict[str, float]:
    """DAVIS's statistics of a measure, float `[t]`, over the scored frames of one object.

    The official toolkit's decay differs beyond 256 frames, where its uint8 indices wrap around.

    Returns:
      `mean`; `recall`, the share of frames above 0.5; `decay`, the mean of the first quarter of the
      frames minus that of the last (adjacent quarters share a frame).

    Raises:
      ValueError: if there are no frames.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"values of shape {values.shape}: expected one for each frame, [t], t >= 1"
        )
    # The toolkit counts from 1 and rounds halves up; NumPy alone would round them to even.
    edges = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = values[: edges[1] + 1], values[edges[-2] :]
    return {
        "mean": float(values.mean()),
        "recall": float((values > 0.5).mean()),
        "decay": float(first.mean() - last.mean()),
    }


def _each(
    measure: Callable[[np.ndarray, np.ndarray], float], truth: np.ndarray, prediction: np.ndarray
) -> np.ndarray:
    """Measures pairs of masks one by one, which is faster than counting over axes of a stack."""
    if truth.shape != prediction.shape or truth.ndim < 2:
        raise ValueError(
            f"truth is {truth.shape} and prediction {prediction.shape}: expected equal [..., h, w]"
        )
    scores = np.empty(truth.shape[:-2])
    for index in np.ndindex(scores.shape):
        scores[index] = measure(
            truth[index].astype(bool, copy=False), prediction[index].astype(bool, copy=False)
        )
    return scores


def _jaccard(truth: np.ndarray, prediction: np.ndarray) -> float:
    intersection = np.count_nonzero(truth & prediction)
    union = np.count_nonzero(truth) + np.count_nonzero(prediction) - intersection
    return intersection / union if union else 1.0


def _boundary_f(truth: np.ndarray, prediction: np.ndarray) -> float:
    radius = boundary_radius(*truth.shape)
    # Both boundaries, and so all matches, lie within a pixel of the masks' common box.
    x, y, width, height = cv2.boundingRect((truth | prediction).view(np.uint8))
    window = np.s_[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1]
    truth, prediction = boundary_map(truth[window]), boundary_map(prediction[window])
    n_truth, n_prediction = np.count_nonzero(truth), np.count_nonzero(prediction)
    if n_truth == 0 or n_prediction == 0:
        return float(n_truth == n_prediction)
    precision = np.count_nonzero(prediction & _dilate(truth, radius)) / n_prediction
    recall = np.count_nonzero(truth & _dilate(prediction, radius)) / n_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _dilate(boundary: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(boundary.view(np.uint8), _disk(radius)).view(bool)


@functools.cache
def _disk(radius: int) -> np.ndarray:
    """A disk as in scikit-image, unlike OpenCV's ellipse: uint8 `[2 radius + 1, 2 radius + 1]`."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
