"""A triplet shows one target in all three frames, with tight boxes."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.triplets.triplets import MIN_VISIBLE, Augmentation, static_triplet, video_triplet
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError

PLAIN = Augmentation(
    crop=48, rotation=0, scale=(1, 1), shift=0, shear=0, flip=False, tps=0, colour_jitter=0
)
FULL = Augmentation(crop=48, rotation=20, shift=0.1, shear=10, tps=0.05, colour_jitter=0.2)
FROZEN_COLOUR = dataclasses.replace(FULL, colour_jitter=0)


def scene(height=60, width=80, top=20, left=30, bottom=40, right=55):
    """An image that is red where its mask is 1."""
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    image = np.full((height, width, 3), 90, np.uint8)
    image[mask == 1] = (250, 0, 0)
    return image, mask


def rng(seed=0):
    return np.random.default_rng(seed)


def moving(step):
    """Three frames; the target moves right by `step` pixels a frame."""
    scenes = [scene(left=20 + i * step, right=32 + i * step) for i in range(3)]
    return [image for image, _ in scenes], [mask for _, mask in scenes]


def test_shapes_and_types():
    triplet = static_triplet(*scene(), rng(), FULL)
    assert (triplet.images.shape, triplet.images.dtype) == ((3, 48, 48, 3), np.uint8)
    assert (triplet.masks.shape, triplet.masks.dtype) == ((3, 48, 48), np.uint8)
    assert (triplet.boxes.shape, triplet.boxes.dtype) == ((3, 4), np.int32)
    assert set(np.unique(triplet.masks)) == {0, 1}
    np.testing.assert_array_equal(triplet.boxes, mask_to_box(triplet.masks))


@pytest.mark.parametrize("seed", range(5))
def test_image_and_mask_move_together(seed):
    for triplet in (
        static_triplet(*scene(), rng(seed), FROZEN_COLOUR),
        video_triplet(*moving(5), rng(seed), FROZEN_COLOUR),
    ):
        red = triplet.images[..., 0].astype(int) - triplet.images[..., 1]  # 250 of the target
        assert (triplet.masks[red > 130] == 1).all()
        assert (triplet.masks[red < 120] == 0).all()


def test_frames_of_a_still_image_differ_and_those_of_a_video_share_the_view():
    still = static_triplet(*scene(), rng(), FROZEN_COLOUR)
    assert not np.array_equal(still.masks[0], still.masks[1])
    assert not np.array_equal(still.masks[1], still.masks[2])
    video = video_triplet(*moving(0), rng(), FROZEN_COLOUR)
    assert (video.masks == video.masks[0]).all()
    assert (video.images == video.images[0]).all()


def test_without_augmentation_the_shorter_side_fills_the_crop():
    triplet = static_triplet(*scene(height=48, width=48), rng(), PLAIN)
    image, mask = scene(height=48, width=48)
    np.testing.assert_allclose(triplet.images, np.broadcast_to(image, (3, 48, 48, 3)), atol=1)
    assert (triplet.masks == mask).all()


def test_zoom_stays_within_its_range():
    augmentation = dataclasses.replace(PLAIN, scale=(0.5, 2.0))
    widths = []
    for seed in range(40):
        triplet = static_triplet(*scene(48, 48, 21, 21, 27, 27), rng(seed), augmentation)
        widths += triplet.boxes[:, 2].tolist()
    assert 3 <= min(widths) <= 4  # 6 pixels at half and at twice their size
    assert 11 <= max(widths) <= 12


def test_zoom_is_relative_to_the_crop_not_to_the_image_size():
    image, mask = scene(192, 192, 80, 80, 104, 104)  # four times the crop
    triplet = static_triplet(image, mask, rng(), PLAIN)
    assert triplet.boxes[:, 2:].tolist() == [[6, 6]] * 3


def test_flip_is_shared_by_the_three_frames_and_happens_half_the_time():
    image, mask = scene(48, 48)
    image[:, :4] = 0  # black on the left, unless mirrored
    augmentation = dataclasses.replace(PLAIN, flip=True)
    mirrored = [
        (static_triplet(image, mask, rng(seed), augmentation).images[:, 40, -2, 0] == 0).tolist()
        for seed in range(60)
    ]
    assert all(m in ([True] * 3, [False] * 3) for m in mirrored)
    assert 15 < sum(m[0] for m in mirrored) < 45


@pytest.mark.parametrize("seed", range(20))
def test_target_is_visible_in_every_frame(seed):
    wild = Augmentation(crop=48, rotation=180, scale=(0.3, 4), shift=0.5, tps=0.2)
    for of in (scene(60, 200, 5, 5, 12, 12), scene(300, 300, 150, 290, 151, 291)):
        triplet = static_triplet(*of, rng(seed), wild)
        assert (triplet.masks.mean(axis=(1, 2)) >= MIN_VISIBLE).all()


def test_target_that_crosses_the_whole_video_stays_in_view():
    scenes = [scene(60, 400, 20, left, 40, left + 10) for left in (0, 200, 390)]
    images, masks = zip(*scenes, strict=True)
    triplet = video_triplet(images, masks, rng(), FULL)
    assert (triplet.boxes[:, 2] > 0).all()
    assert triplet.boxes[0, 0] < triplet.boxes[1, 0] < triplet.boxes[2, 0]


def test_target_smaller_than_a_pixel_of_the_crop_is_not_lost():
    scenes = [scene(400, 400, at, at, at + 2, at + 2) for at in (0, 200, 398)]
    images, masks = zip(*scenes, strict=True)  # what shows all three shrinks them to a quarter
    triplet = video_triplet(images, masks, rng(), FULL)
    assert (triplet.boxes[:, 2:] > 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("crop", 100), ("crop", 0), ("scale", (1.5, 0.9)), ("scale", (0, 1)), ("rotation", -1),
     ("shift", 2), ("tps", 3), ("colour_jitter", 1)],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(field, value):
    with pytest.raises(InputError, match=rf"data\.{field}="):
        Augmentation(**{field: value})
