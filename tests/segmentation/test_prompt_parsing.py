"""Boxes on the command line and mask files become prompts by frame."""

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.masks import write_labels
from qmra_jax.segmentation.prompt_parsing import parse_box, read_objects

SIZE = (48, 64)


def test_boxes_are_numbered_in_order_across_frames():
    objects = read_objects(SIZE, ["1,2,3,4@30", "5,6,7,8", "9,9,2,2@30"], frame=12)
    assert list(objects) == [12, 30]
    assert objects[12].ids == (2,)
    assert objects[30].ids == (1, 3)
    assert objects[30].boxes.tolist() == [[1, 2, 3, 4], [9, 9, 2, 2]]


def test_a_0_255_mask_is_object_1(tmp_path):
    labels = np.zeros(SIZE, np.uint8)
    labels[10:20, 30:35] = 255
    write_labels(tmp_path / "binary.png", labels)
    objects = read_objects(SIZE, [], tmp_path / "binary.png", frame=4)
    assert objects[4].ids == (1,)
    assert objects[4].boxes.tolist() == [[30, 10, 5, 10]]


def test_masks_keep_their_pixels_and_boxes_in_the_same_frame_are_filled(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[2:5, 3:9] = 7
    labels[2, 3] = 0
    labels[0, 0] = 255  # void
    write_labels(tmp_path / "m.png", labels)
    objects = read_objects((20, 30), ["10,11,4,5", "1,1,2,2@6"], tmp_path / "m.png")
    assert objects[0].ids == (7, 1)
    np.testing.assert_array_equal(objects[0].masks[0], labels == 7)
    assert objects[0].masks[1].sum() == objects[0].masks[1, 11:16, 10:14].sum() == 20
    assert objects[0].arguments().keys() == {"masks", "ids"}
    assert objects[6].masks is None
    assert objects[6].arguments().keys() == {"boxes", "ids"}


def test_empty_masks_masks_of_another_size_and_too_many_objects_are_refused(tmp_path):
    path = tmp_path / "empty.png"
    write_labels(path, np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match=r"empty\.png is empty"):
        read_objects(SIZE, [], path)
    with pytest.raises(InputError, match=r"empty\.png is 64x48, the video 64x40"):
        read_objects((40, 64), [], path)
    with pytest.raises(InputError, match="254"):
        read_objects(SIZE, ["1,1,2,2"] * 255)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4@", "1,2,3,4@a", "1.5,2,3,4", "1,2,3,4@1@2", ""])
def test_other_texts_than_boxes_are_refused(text):
    with pytest.raises(InputError, match=f"box {text!r}"):
        parse_box(text)


def test_boxes_may_contain_spaces():
    assert parse_box("1, 2, 3, 4 @ 5") == ((1, 2, 3, 4), 5)
