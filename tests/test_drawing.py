"""Pictures show objects in their colours, and change nothing elsewhere."""

import numpy as np
import pytest

from qmra_jax.drawing import object_colour, overlay, plain_text, strip, triplet_sheet
from qmra_jax.errors import InputError

GREY = np.full((80, 120, 3), 100, np.uint8)


def square(label=1, where=slice(20, 60), size=(80, 120)):
    labels = np.zeros(size, np.uint8)
    labels[where, where] = label
    return labels


@pytest.mark.parametrize("label", [1, 2, 3, 9])
@pytest.mark.parametrize("edge_to_edge", [False, True])
def test_the_overlay_tints_an_object_in_its_colour(label, edge_to_edge):
    labels = np.full((80, 120), label, np.uint8) if edge_to_edge else square(label)
    image = overlay(GREY, labels, alpha=0.5)
    expected = (100 + object_colour(label).astype(float)) / 2
    assert np.abs(image[40, 40] - expected).max() <= 1


@pytest.mark.parametrize("alpha", [0.37, 0.5, 1])
def test_the_overlay_leaves_the_background_and_its_input_alone(alpha):
    frame = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    before, labels = frame.copy(), square()
    image = overlay(frame, labels, alpha=alpha)
    assert np.array_equal(frame, before)
    far = np.ones((80, 120), bool)
    far[17:63, 17:63] = False  # the outline may reach a little way out
    assert np.array_equal(image[far], frame[far])


def test_the_overlay_of_nothing_is_the_frame():
    empty = np.zeros((80, 120), np.uint8)
    assert np.array_equal(overlay(GREY, empty, np.zeros((3, 4), np.int32)), GREY)


def test_an_objects_outline_is_paler_than_its_inside():
    image = overlay(GREY, square()).astype(int)
    border, inside = image[40, 20], image[40, 40]
    assert (border > inside).all()
    assert np.array_equal(image[40, 15], GREY[40, 15])


def test_a_box_is_drawn_on_its_outermost_pixels_in_its_objects_colour():
    boxes = np.array([[0, 0, 0, 0], [10, 20, 30, 25]])  # none; columns 10 to 39, rows 20 to 44
    image = overlay(GREY, np.zeros((80, 120), np.uint8), boxes)
    changed = np.argwhere((image != GREY).any(axis=-1))
    assert changed.min(axis=0).tolist() == [20, 10]
    assert changed.max(axis=0).tolist() == [44, 39]
    assert np.array_equal(image[20, 10], object_colour(2))
    assert np.array_equal(image[30, 25], GREY[30, 25])


def test_objects_have_colours_of_their_own():
    colours = {tuple(object_colour(label).tolist()) for label in range(1, 17)}
    assert len(colours) == 16


def test_frame_and_labels_of_different_size_are_refused():
    with pytest.raises(InputError, match=r"120x80.*100x80"):
        overlay(GREY, np.zeros((80, 100), np.uint8))


def test_a_strip_keeps_order_and_shape():
    frames = [np.full((60, 100, 3), value, np.uint8) for value in (0, 60, 120, 180, 240)]
    one_row = strip(frames, height=30)
    assert one_row.shape[0] == 30
    assert one_row[15, 25::56].tolist() == [[v] * 3 for v in (0, 60, 120, 180, 240)]
    two_rows = strip(frames, height=30, columns=3)
    assert two_rows.shape[1] < one_row.shape[1]
    assert two_rows[51, 25].tolist() == [180] * 3
    assert two_rows[51, 25 + 2 * 56].tolist() == [255] * 3  # no sixth picture


def test_letters_that_the_font_lacks_are_replaced():
    for text, plain in (("th\u00e9irs \u017c", "theirs z"), ("\u6211", "?"), ("\u00e5\u0308", "a")):
        assert plain_text(text) == plain
        assert np.array_equal(strip([GREY], captions=[text]), strip([GREY], captions=[plain]))


def test_captions_are_written_on_their_pictures_alone():
    frames = [np.full((180, 320, 3), 200, np.uint8)] * 2
    plain, captioned = strip(frames), strip(frames, captions=["frame 0", ""])
    assert (captioned[120:, :150] != plain[120:, :150]).any()
    assert np.array_equal(captioned[:120], plain[:120])


def triplets(size=48):
    images = np.full((2, 3, size, size, 3), 100, np.uint8)
    masks = np.zeros((2, 3, size, size), bool)
    masks[:, :, 12:36, 12:36] = True
    boxes = np.broadcast_to([12, 12, 24, 24], (2, 3, 4)).copy()
    return images, masks, boxes


def test_a_sheet_has_a_row_per_triplet_and_a_column_per_prediction():
    images, masks, boxes = triplets()
    nothing = np.zeros((2, 48, 48), np.float32)
    three = triplet_sheet(images, masks, boxes, cell=48)
    six = triplet_sheet(images, masks, boxes, dict.fromkeys(("box", "mask", "refined"), nothing))
    assert three.shape[1] == 3 * 48 + 2 * 6
    assert six.shape[1] == 6 * 192 + 5 * 6
    one = triplet_sheet(images[:1], masks[:1], boxes[:1], cell=48)
    assert three.shape[0] - one.shape[0] == 48 + 6


def test_a_sheet_shows_boxes_in_memory_the_mask_in_the_query_and_predictions():
    images, masks, boxes = triplets(96)
    left = np.zeros((2, 96, 96), np.float32)
    left[:, :, :48] = 1
    sheet = triplet_sheet(images, masks, boxes, {"mask": left}, cell=96)
    last_row = sheet[-96:]
    memory, query, predicted = (last_row[:, k * 102 : k * 102 + 96] for k in (0, 2, 3))
    assert memory[12, 20].tolist() == [255] * 3  # the box's upper edge
    assert memory[24, 24].tolist() == [100] * 3  # and nothing inside
    red = query[24, 24].astype(int)
    assert red[0] > 130
    assert red[1] < 100
    assert query[60, 60].tolist() == [100] * 3
    assert np.array_equal(predicted[5, 5], query[24, 24])  # where it is sure
    assert predicted[5, 60].tolist() == [100] * 3
    assert predicted[12, 30].min() > 200  # the border of the truth, in white
