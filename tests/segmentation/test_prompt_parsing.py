"""What a user draws becomes boxes and ids by frame."""

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.masks import write_labels
from qmra_jax.segmentation.prompt_parsing import parse_box, read_objects

SIZE = (48, 64)


def test_boxes_are_numbered_in_their_order_whatever_their_frames():
    objects = read_objects(SIZE, ["1,2,3,4@30", "5,6,7,8", "9,9,2,2@30"], frame=12)
    assert list(objects) == [12, 30]
    assert objects[12].ids == (2,)
    assert objects[30].ids == (1, 3)
    assert objects[30].boxes.tolist() == [[1, 2, 3, 4], [9, 9, 2, 2]]


def test_a_mask_of_one_object_in_0_and_255_is_object_1(tmp_path):
    labels = np.zeros(SIZE, np.uint8)
    labels[10:20, 30:35] = 255
    write_labels(tmp_path / "binary.png", labels)
    objects = read_objects(SIZE, [], tmp_path / "binary.png", frame=4)
    assert objects[4].ids == (1,)
    assert objects[4].boxes.tolist() == [[30, 10, 5, 10]]


def test_an_empty_mask_and_more_objects_than_labels_are_refused(tmp_path):
    write_labels(tmp_path / "empty.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match=r"empty\.png is empty"):
        read_objects(SIZE, [], tmp_path / "empty.png")
    with pytest.raises(InputError, match="at most 254"):
        read_objects(SIZE, ["1,1,2,2"] * 255)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4@", "1,2,3,4@a", "1.5,2,3,4", "1,2,3,4@1@2", ""])
def test_what_is_no_box_is_refused_but_spaces_do_no_harm(text):
    with pytest.raises(InputError, match=r"x,y,width,height"):
        parse_box(text)
    assert parse_box("1, 2, 3, 4 @ 5") == ((1, 2, 3, 4), 5)


def test_a_mask_keeps_its_pixels_for_networks_that_want_them_and_boxes_beside_it_are_filled(
    tmp_path,
):
    labels = np.zeros((20, 30), np.uint8)
    labels[2:5, 3:9] = 7
    labels[2, 3] = 0
    write_labels(tmp_path / "m.png", labels)
    objects = read_objects((20, 30), ["10,11,4,5", "1,1,2,2@6"], tmp_path / "m.png")
    assert objects[0].ids == (7, 1)
    np.testing.assert_array_equal(objects[0].masks[0], labels == 7)
    assert objects[0].masks[1].sum() == objects[0].masks[1, 11:16, 10:14].sum() == 20
    assert objects[0].arguments().keys() == {"masks", "ids"}
    assert objects[6].masks is None
    assert objects[6].arguments().keys() == {"boxes", "ids"}
