"""A pasted object: its place, which one is the target, and that the target stays visible."""

import numpy as np
import pytest

from data_pipeline.triplets.distractors import (
    ITSELF_SIZE,
    MIN_LEFT,
    add_distractor,
    add_itself,
    without_target,
)
from data_pipeline.triplets.triplets import MIN_VISIBLE, Augmentation, Triplet
from qmra_jax.boxes import mask_to_box

SIDE = 64
PLAIN = Augmentation(crop=SIDE, colour_jitter=0.0)
RED, BLUE = (250, 10, 10), (10, 10, 250)


def triplet(size=30):
    """A red square in the middle of black frames."""
    masks = np.zeros((3, SIDE, SIDE), np.uint8)
    masks[:, 17 : 17 + size, 17 : 17 + size] = 1
    return Triplet(masks[..., None] * np.uint8(RED), masks, mask_to_box(masks))


IMAGE = np.full((40, 50, 3), BLUE, np.uint8)
MASK = np.zeros((40, 50), np.uint8)
MASK[10:30, 15:35] = 1


def pasted(seed, before=None, may_be_target=True, image=IMAGE, augmentation=PLAIN):
    rng = np.random.default_rng(seed)
    before = triplet() if before is None else before
    return add_distractor(before, image, MASK, rng, augmentation, may_be_target=may_be_target)


def colours(image):
    """Where the image is clearly red, and clearly blue."""
    r, _, b = np.moveaxis(image.astype(int), -1, 0)
    return r - b > 120, b - r > 120


def test_the_mask_is_what_is_visible_of_one_object_and_the_other_is_background():
    roles = set()
    for seed in range(60):
        after = pasted(seed)
        for image, mask in zip(after.images, after.masks, strict=True):
            red, blue = colours(image)
            is_blue = bool((mask & blue).sum() > (mask & red).sum())
            roles.add(is_blue)
            target, other = (blue, red) if is_blue else (red, blue)
            # Exact except for the soft border of what was pasted.
            assert (target & (mask == 0)).sum() <= 0.15 * mask.sum() + 4
            assert not (other & (mask == 1)).sum() > 0.15 * mask.sum() + 4
    assert roles == {True, False}


def test_the_target_stays_visible_and_its_box_is_tight():
    for seed in range(60):
        for may in (True, False):
            before = triplet(size=12)
            after = pasted(seed, before, may)
            areas = after.masks.sum(axis=(1, 2))
            assert (areas >= MIN_VISIBLE * SIDE**2).all()
            if not may:
                assert (areas >= MIN_LEFT * before.masks.sum(axis=(1, 2))).all()
                assert not (after.masks > before.masks).any()
            np.testing.assert_array_equal(after.boxes, mask_to_box(after.masks))


def test_it_lies_in_front_behind_and_anywhere_and_moves_from_frame_to_frame():
    hides, moves, places = set(), [], []
    for seed in range(60):
        after = pasted(seed, may_be_target=False)
        hides.add(bool((after.masks < triplet().masks).any()))
        boxes = mask_to_box(np.stack([colours(image)[1] for image in after.images]))
        if (boxes[:, 2] > 0).all():
            moves.append(np.ptp(boxes[:, :2], axis=0).max())
            places.append(boxes[0, :2] + boxes[0, 2:] / 2)
    assert hides == {True, False}
    assert np.mean(moves) > 2
    assert (np.ptp(places, axis=0) > 0.6 * SIDE).all()


def test_the_input_and_everything_beyond_the_two_objects_stay_unchanged():
    before = triplet()
    for seed in range(20):
        after = pasted(seed, before)
        red, blue = colours(after.images)
        rest = ~red & ~blue & (before.masks == 0) & (after.masks == 0)
        assert np.median(after.images[rest]) == 0
    np.testing.assert_array_equal(before.images, triplet().images)
    np.testing.assert_array_equal(before.masks, triplet().masks)


def test_the_target_pasted_again_is_about_as_large_and_never_the_target():
    before, sizes = triplet(size=12), []
    for seed in range(30):
        after = add_itself(before, np.random.default_rng(seed), PLAIN)
        assert not (after.masks > before.masks).any()
        assert (after.masks.sum(axis=(1, 2)) >= MIN_LEFT * 144).all()
        beside = colours(after.images)[0] & (before.masks == 0)
        sizes += mask_to_box(beside)[:, 2:].max(axis=1).tolist()
    whole = [
        size for size in sizes if size > 0.5 * 12
    ]  # others lie partly beyond a border or behind
    assert len(whole) > len(sizes) / 2
    assert max(whole) < 1.5 * ITSELF_SIZE[1] * 12 * np.sqrt(2)  # it grows, and it rotates


def test_a_query_without_the_target_shows_the_other_image_and_has_no_box():
    before = triplet()
    after = without_target(before, IMAGE, MASK, np.random.default_rng(0), PLAIN)
    np.testing.assert_array_equal(after.images[:2], before.images[:2])
    np.testing.assert_array_equal(after.masks[:2], before.masks[:2])
    assert not colours(after.images[2])[0].any()
    assert not after.masks[2].any()
    assert after.boxes.tolist() == [*before.boxes[:2].tolist(), [0, 0, 0, 0]]
    np.testing.assert_array_equal(before.masks, triplet().masks)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_its_colours_are_jittered(jitter):
    grey = np.full_like(IMAGE, 128)
    augmentation = Augmentation(crop=SIDE, colour_jitter=jitter)
    empty = Triplet(np.zeros((3, SIDE, SIDE, 3), np.uint8), triplet().masks, triplet().boxes)
    peaks = [pasted(s, empty, image=grey, augmentation=augmentation).images.max() for s in range(9)]
    assert (len(set(peaks)) > 1) == bool(jitter)
