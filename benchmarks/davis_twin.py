"""A reimplementation of the official DAVIS toolkit's scoring, for timing.

It follows davisvideochallenge/davis2017-evaluation, semi-supervised, in what costs time: arrays and
their dtypes, Python loops, PNGs read one by one with Pillow, dilation with scikit-image's disk. It
gives the same numbers, faults included: uint8 frame numbers for the decay, 255 as background, no
checks.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.morphology import disk

BOUNDARY_SHARE = 0.008


def evaluate(truth: Path, predictions: Path, names: list[str]) -> dict[str, dict[str, list[float]]]:
    """Scores sequences, each a folder of masks below `truth` and `predictions`.

    Returns:
      `{"bear_1": {"J": [mean, recall, decay], "F": [...]}, ...}`.
    """
    scores = {}
    for name in names:
        true_masks, frames = _true_masks(truth / name)
        true_masks, frames = true_masks[:, 1:-1], frames[1:-1]
        predicted = _predicted_masks(predictions / name, frames)
        j, f = np.zeros(true_masks.shape[:2]), np.zeros(true_masks.shape[:2])
        for k in range(len(true_masks)):
            void = true_masks[k] == 255  # of a bool array: never
            j[k] = _jaccard(true_masks[k], predicted[k], void)
            f[k] = [
                _boundary_f(predicted[k, t], true_masks[k, t], void[t]) for t in range(len(frames))
            ]
        for k in range(len(true_masks)):
            scores[f"{name}_{k + 1}"] = {"J": _statistics(j[k]), "F": _statistics(f[k])}
    return scores


def _true_masks(folder: Path) -> tuple[np.ndarray, list[str]]:
    """bool `[n, t, h, w]`, by way of a float64 copy for each object."""
    paths = sorted(folder.glob("*.png"))
    labels = np.zeros((len(paths), *np.array(Image.open(paths[0])).shape))
    for k, path in enumerate(paths):
        labels[k] = np.array(Image.open(path))
        labels[k, labels[k] == 255] = 0
    return _separated(labels, int(labels[0].max())) > 0, [path.stem for path in paths]


def _predicted_masks(folder: Path, frames: list[str]) -> np.ndarray:
    labels = np.zeros((len(frames), *np.array(Image.open(folder / f"{frames[0]}.png")).shape))
    for k, frame in enumerate(frames):
        labels[k] = np.array(Image.open(folder / f"{frame}.png"))
    return _separated(labels, int(labels.max())) > 0


def _separated(labels: np.ndarray, n: int) -> np.ndarray:
    numbers = np.ones((n, *labels.shape)) * np.arange(1, n + 1)[:, None, None, None]
    return numbers == labels[None]


def _jaccard(truth: np.ndarray, prediction: np.ndarray, void: np.ndarray) -> np.ndarray:
    truth, prediction, void = truth.astype(bool), prediction.astype(bool), void.astype(bool)
    intersection = np.sum((prediction & truth) & np.logical_not(void), axis=(-2, -1))
    union = np.sum((prediction | truth) & np.logical_not(void), axis=(-2, -1))
    with np.errstate(invalid="ignore"):
        j = intersection / union
    j[np.isclose(union, 0)] = 1
    return j


def _boundary_f(prediction: np.ndarray, truth: np.ndarray, void: np.ndarray) -> float:
    void = void.astype(bool)
    radius = np.ceil(BOUNDARY_SHARE * np.linalg.norm(prediction.shape))
    predicted = _boundary(prediction * np.logical_not(void))
    true = _boundary(truth * np.logical_not(void))
    near_predicted = cv2.dilate(predicted.astype(np.uint8), disk(radius).astype(np.uint8))
    near_true = cv2.dilate(true.astype(np.uint8), disk(radius).astype(np.uint8))
    true_matches, predicted_matches = true * near_predicted, predicted * near_true
    n_predicted, n_true = np.sum(predicted), np.sum(true)
    if n_predicted == 0 or n_true == 0:
        precision, recall = float(n_predicted == 0), float(n_true == 0)
    else:
        precision = float(np.sum(predicted_matches) / float(n_predicted))
        recall = float(np.sum(true_matches) / float(n_true))
    return 0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _boundary(mask: np.ndarray) -> np.ndarray:
    mask = mask.astype(bool)
    mask[mask > 0] = 1
    east, south, south_east = (np.zeros_like(mask) for _ in range(3))
    east[:, :-1] = mask[:, 1:]
    south[:-1] = mask[1:]
    south_east[:-1, :-1] = mask[1:, 1:]
    boundary = mask ^ east | mask ^ south | mask ^ south_east
    boundary[-1] = mask[-1] ^ east[-1]
    boundary[:, -1] = mask[:, -1] ^ south[:, -1]
    boundary[-1, -1] = 0
    return boundary


def _statistics(values: np.ndarray) -> list[float]:
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10) - 1
    edges = edges.astype(np.uint8)
    bins = [values[edges[k] : edges[k + 1] + 1] for k in range(4)]
    return [np.nanmean(values), np.nanmean(values > 0.5), np.nanmean(bins[0]) - np.nanmean(bins[3])]
