import jax
import numpy as np
import pytest

from qmra_jax import boxes
from qmra_jax.errors import InputError


def on_numpy(function, array, *size):
    return function(array, *size)


def on_jax(function, array, *size):
    return jax.jit(lambda array: function(array, *size))(array)


ARRAYS = pytest.mark.parametrize("run", [on_numpy, on_jax])


@ARRAYS
def test_a_masks_box_is_tight_and_an_empty_masks_box_is_zero(run):
    masks = np.zeros((3, 6, 8), np.uint8)
    masks[:2, 2, 3] = 1
    masks[1, 4, 7] = 255
    box = run(boxes.mask_to_box, masks)
    assert box.tolist() == [[3, 2, 1, 1], [3, 2, 5, 3], [0, 0, 0, 0]]
    assert box.dtype == np.int32


@ARRAYS
def test_box_and_map_are_inverse(run):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 20, (50, 2, 2)), axis=1)
    drawn = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0] + 1], axis=1)
    drawn[0] = 0  # an empty box fills nothing
    maps = run(boxes.box_to_map, drawn, 21, 22)
    assert maps.dtype == np.float32
    assert maps.shape == (50, 21, 22)
    np.testing.assert_array_equal(np.asarray(maps).sum((1, 2)), drawn[:, 2] * drawn[:, 3])
    np.testing.assert_array_equal(run(boxes.map_to_box, maps), drawn)


def test_a_box_map_is_cut_off_at_the_frame():
    assert boxes.box_to_map(np.array([-2, 1, 4, 9]), 3, 5).tolist() == [
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
    ]


def test_the_threshold_decides_what_is_inside():
    probability = np.array([[0.2, 0.5, 0.6, 0.9]])
    assert boxes.map_to_box(probability).tolist() == [2, 0, 2, 1]
    assert boxes.map_to_box(probability, threshold=0.1).tolist() == [0, 0, 4, 1]


@pytest.mark.parametrize(
    ("box", "named"),
    [
        ((5, 5, 0, 3), "5,5,0,3 is empty"),
        ((5, 5, 3, -1), "5,5,3,-1 is empty"),
        ((-1, 5, 3, 3), "-1,5,3,3 .*60 wide and 40 high"),
        ((58, 5, 3, 3), "58,5,3,3 .*at most 60"),
        ((5, 38, 3, 3), "5,38,3,3 .*at most 40"),
        ((1, 2, 3), r"\(1, 2, 3\): .*four numbers"),
        ((1.5, 2, 3, 4), "1.5,2,3,4: .*whole"),
        ((float("nan"), 2, 3, 4), "nan,2,3,4: .*whole"),
    ],
)
def test_bad_boxes_are_refused(box, named):
    assert boxes.check_box((0, 0, 60, 40), 40, 60).tolist() == [0, 0, 60, 40]
    with pytest.raises(InputError, match=named):
        boxes.check_box(box, 40, 60)


def test_boxes_scale_by_their_edges_and_thin_ones_survive():
    sizes = np.array([[1, 2, 3, 4], [0, 0, 0, 0]])
    assert boxes.scale_boxes(sizes, (10, 10), (20, 30)).tolist() == [[3, 4, 9, 8], [0, 0, 0, 0]]
    assert boxes.scale_boxes(sizes, (10, 10), (10, 10)).tolist() == sizes.tolist()
    thin = np.array([[1279, 100, 1, 200], [0, 719, 9, 1]])
    small = boxes.scale_boxes(thin, (720, 1280), (240, 427))
    assert small.tolist() == [[426, 33, 1, 67], [0, 239, 3, 1]]
