"""J, F and their statistics are those of the official toolkit, piece by piece."""

import math

import cv2
import numpy as np
import pytest

from qmra_jax.scoring.metrics import (
    boundary_f,
    boundary_map,
    boundary_radius,
    jaccard,
    statistics,
)


def square(x, y, size, height=60, width=80):
    mask = np.zeros((height, width), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def textbook_boundary(mask):
    """FACTS of the toolkit's boundary, one pixel at a time."""
    height, width = mask.shape
    boundary = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            south, east = y + 1 < height, x + 1 < width
            neighbours = [
                *([mask[y, x + 1]] if east else []),
                *([mask[y + 1, x]] if south else []),
                *([mask[y + 1, x + 1]] if south and east else []),
            ]
            boundary[y, x] = any(n != mask[y, x] for n in neighbours)
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


def test_j_is_intersection_over_union():
    assert jaccard(square(0, 0, 10), square(5, 0, 10)) == 50 / 150


def test_j_and_f_of_two_empty_masks_are_1_and_of_one_empty_mask_0():
    empty, full = np.zeros((60, 80), bool), square(20, 20, 10)
    assert [measure(empty, empty) for measure in (jaccard, boundary_f)] == [1, 1]
    for pair in [(empty, full), (full, empty)]:
        assert [measure(*pair) for measure in (jaccard, boundary_f)] == [0, 0]


def test_labels_count_as_the_object_whatever_their_value():
    mask = square(20, 20, 10)
    assert jaccard(mask.astype(np.uint8) * 2, mask.astype(np.uint8) * 255) == 1
    assert boundary_f(mask.astype(np.uint8) * 2, mask.astype(np.uint8) * 255) == 1


def test_a_stack_is_scored_mask_by_mask():
    truth = np.stack([square(20, 20, 10)] * 3)
    prediction = np.stack([square(20 + shift, 20, 10) for shift in (0, 1, 30)])
    for measure in (jaccard, boundary_f):
        alone = [measure(t, p) for t, p in zip(truth, prediction, strict=True)]
        assert measure(truth, prediction).tolist() == alone
        assert alone[0] == 1
        assert alone[2] == 0


def test_masks_of_different_shape_are_refused():
    for measure in (jaccard, boundary_f):
        with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
            measure(np.zeros((4, 4)), np.zeros((4, 5)))


@pytest.mark.parametrize(("size", "radius"), [((480, 854), 8), ((324, 576), 6), ((64, 64), 1)])
def test_the_tolerance_is_the_ceiling_of_8_thousandths_of_the_diagonal(size, radius):
    assert boundary_radius(*size) == radius


@pytest.mark.parametrize(("shift", "expected"), [(8, 1.0), (9, 0.0)])
def test_a_boundary_matches_up_to_the_tolerance_and_no_further(shift, expected):
    halves = np.arange(854) < 400, np.arange(854) < 400 + shift
    truth, prediction = (np.broadcast_to(half, (480, 854)) for half in halves)
    assert boundary_f(truth, prediction) == expected


def test_the_boundary_looks_east_south_and_south_east_and_ignores_the_edge_of_the_frame():
    boundary = boundary_map(square(1, 1, 2, 4, 4))
    expected = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(boundary, np.array(expected, bool))
    assert not boundary_map(np.ones((4, 4), bool)).any()


def test_f_equals_the_textbook_on_random_masks_of_any_size():
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


def test_the_official_wrap_of_frame_numbers_changes_long_videos_alone():
    short = np.linspace(1, 0, 256)
    assert statistics(short) == statistics(short, official_decay_wrap=True)
    # 350 frames: the edges 0, 87, 175, 262, 349 wrap to 0, 87, 175, 6, 93.
    values = np.linspace(1, 0, 350)
    assert statistics(values)["decay"] == pytest.approx(values[:88].mean() - values[262:].mean())
    wrapped = statistics(values, official_decay_wrap=True)["decay"]
    assert wrapped == pytest.approx(values[:88].mean() - values[6:94].mean())
    # 300 frames: the last edges wrap to 224 and 43, between which there is nothing.
    assert math.isnan(statistics(np.ones(300), official_decay_wrap=True)["decay"])


def test_statistics_of_no_frames_are_refused():
    with pytest.raises(ValueError, match="expected one for each frame"):
        statistics([])
