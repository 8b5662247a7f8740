"""J, F and their statistics are those of the official toolkit, piece by piece."""

import math

import cv2
import numpy as np
import pytest

from qmra_jax.scoring.metrics import boundary_f, boundary_map, jaccard, statistics


def square(x, y, size, height=60, width=80):
    mask = np.zeros((height, width), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def textbook_boundary(mask):
    """The toolkit's boundary, pixel by pixel: it differs from a neighbour on the far side."""
    boundary = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        boundary[y, x] = (mask[y : y + 2, x : x + 2] != mask[y, x]).any()
    return boundary


def textbook_f(truth, prediction):
    """F over the whole frame, with scikit-image's disk."""
    morphology = pytest.importorskip("skimage.morphology")
    disk = morphology.disk(math.ceil(0.008 * math.hypot(*truth.shape))).astype(np.uint8)
    t, p = (textbook_boundary(mask).astype(np.uint8) for mask in (truth, prediction))
    if t.sum() == 0 or p.sum() == 0:
        return float(t.sum() == p.sum())
    precision = (p & cv2.dilate(t, disk)).sum() / p.sum()
    recall = (t & cv2.dilate(p, disk)).sum() / t.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def random_masks(rng):
    height, width = rng.integers(1, 40, 2)
    for _ in range(2):
        kind = rng.integers(5)
        if kind < 2:
            yield np.full((height, width), bool(kind))
        elif kind == 2:
            yield rng.random((height, width)) < rng.random()
        else:
            yield square(rng.integers(width), rng.integers(height), 9, height, width)


BOTH = pytest.mark.parametrize("measure", [jaccard, boundary_f])


def test_j_is_intersection_over_union():
    assert jaccard(square(0, 0, 10), square(5, 0, 10)) == 50 / 150


@BOTH
def test_two_empty_masks_score_1_and_a_single_one_0(measure):
    empty, full = np.zeros((60, 80), bool), square(20, 20, 10)
    assert [measure(empty, empty), measure(empty, full), measure(full, empty)] == [1, 0, 0]


@BOTH
def test_any_label_counts_as_the_object(measure):
    mask = square(20, 20, 10).astype(np.uint8)
    assert measure(mask * 2, mask * 255) == 1


@BOTH
def test_a_stack_is_scored_mask_by_mask(measure):
    truth = np.stack([square(20, 20, 10)] * 3)
    prediction = np.stack([square(20 + shift, 20, 10) for shift in (0, 1, 30)])
    alone = [measure(t, p) for t, p in zip(truth, prediction, strict=True)]
    assert measure(truth, prediction).tolist() == alone
    assert (alone[0], alone[2]) == (1, 0)


@BOTH
def test_masks_of_different_shape_are_refused(measure):
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
        measure(np.zeros((4, 4)), np.zeros((4, 5)))


@pytest.mark.parametrize(("shift", "expected"), [(8, 1.0), (9, 0.0)])
def test_a_boundary_matches_up_to_the_tolerance_and_no_further(shift, expected):
    halves = np.arange(854) < 400, np.arange(854) < 400 + shift
    truth, prediction = (np.broadcast_to(half, (480, 854)) for half in halves)
    assert boundary_f(truth, prediction) == expected


def test_f_equals_the_textbook_on_random_masks():
    rng = np.random.default_rng(0)
    for _ in range(150):
        truth, prediction = random_masks(rng)
        np.testing.assert_array_equal(boundary_map(truth), textbook_boundary(truth))
        assert boundary_f(truth, prediction) == pytest.approx(textbook_f(truth, prediction), 1e-12)


def test_the_dilation_uses_the_disk_of_scikit_image():
    morphology = pytest.importorskip("skimage.morphology")
    from qmra_jax.scoring.metrics import _disk

    for radius in range(1, 20):
        np.testing.assert_array_equal(_disk(radius), morphology.disk(radius))


def test_recall_counts_values_strictly_above_a_half():
    assert statistics([0.5, 0.51, 0.0, 1.0])["recall"] == 0.5


@pytest.mark.parametrize(
    ("values", "decay"),
    [
        ([1, 1, 0.7, 0, 0, 0, 0.4, 0.2, 0.3], 0.9 - 0.3),  # quarters: frames 0-2, 2-4, 4-6, 6-8
        # Seven frames: the edges 1, 2.5, 4, 5.5, 7 become frames 0, 2, 3, 5, 6.
        ([0.9, 0.6, 0.3, 0, 0, 0.2, 0.6], 0.6 - 0.4),
        ([0.7], 0),
    ],
)
def test_decay_is_the_first_quarter_minus_the_last_and_quarters_share_a_frame(values, decay):
    result = statistics(values)
    assert result["mean"] == pytest.approx(np.mean(values))
    assert result["decay"] == pytest.approx(decay)


def test_decay_of_a_long_video_does_not_wrap_frame_numbers():
    values = np.linspace(1, 0, 350)
    assert statistics(values)["decay"] == pytest.approx(values[:88].mean() - values[262:].mean())


def test_statistics_of_no_frames_are_refused():
    with pytest.raises(ValueError, match=r"\(0,\)"):
        statistics([])
