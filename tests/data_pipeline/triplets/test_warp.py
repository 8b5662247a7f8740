"""A warp resamples image and mask together, exactly where view and spline say."""

import cv2
import numpy as np
import pytest

from data_pipeline.triplets.warp import (
    CONTROL_POINTS,
    Warp,
    affine_view,
    control_points,
    covered,
    positions,
    warp_frames,
    with_cover,
)

S = 32


def whole(size: int = S, **kwargs) -> np.ndarray:
    return affine_view((size / 2, size / 2), size, **kwargs)


def picture(size: int = S) -> np.ndarray:
    """Noise, smooth enough to be interpolated."""
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 0)


def blob(size: int = S) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[5:14, 8:20] = 1
    mask[14:20, 10:13] = 1
    return mask


def warped(image: np.ndarray, mask: np.ndarray, warp: Warp, size: int, least: float = 0.5):
    """The crops of one image and its mask."""
    (crop,) = warp_frames([with_cover(image, mask)], [warp], size)
    return crop[..., :3], covered(crop, least)


def assert_same_picture(found: np.ndarray, expected: np.ndarray):
    """Up to rounding: OpenCV's kernels depend on the processor and the number of channels."""
    np.testing.assert_allclose(found, expected.astype(int), atol=1)
    assert np.count_nonzero(found != expected) <= 0.01 * expected.size


def assert_same_mask(found: np.ndarray, expected: np.ndarray):
    """Up to half-covered pixels, which such rounding may decide."""
    assert np.count_nonzero(found != expected) <= 2


def test_each_control_point_is_displaced_by_its_delta():
    size = 201  # the pixel nearest to a control point is half a pixel from it at most
    rng = np.random.default_rng(1)
    delta = rng.normal(scale=0.1, size=(CONTROL_POINTS**2, 2))
    (found,) = positions([Warp(whole(size), delta)], size)
    aimed = control_points() + delta
    for (u, v), point in zip(control_points(), aimed, strict=True):
        column, row = (int(np.clip((c + 1) / 2 * size, 0, size - 1)) for c in (u, v))
        x, y = found[:, row, column]
        np.testing.assert_allclose([x + 0.5, y + 0.5], (point + 1) / 2 * size, atol=1.0)


def test_spline_reproduces_affine_displacements_exactly():
    # A plane has no bending energy.
    linear, offset = np.array([[0.1, -0.05], [0.02, 0.07]]), np.array([0.03, -0.04])
    delta = control_points() @ linear.T + offset
    view = whole()
    planar = np.concatenate([view[:, :2] @ (np.eye(2) + linear), view[:, 2:]], axis=1)
    planar[:, 2] += view[:, :2] @ offset
    np.testing.assert_allclose(
        positions([Warp(view, delta)], S), positions([Warp(planar)], S), atol=1e-3
    )


def test_spline_bends_before_the_view():
    delta = np.random.default_rng(2).normal(scale=0.1, size=(CONTROL_POINTS**2, 2))
    view = affine_view((10, 20), 30, rotation=40, shear=10, flip=True)
    bent = positions([Warp(np.eye(2, 3), delta)], S).reshape(2, -1)  # u, v
    expected = view @ np.concatenate([bent, np.ones((1, S * S))])
    np.testing.assert_allclose(
        positions([Warp(view, delta)], S).reshape(2, -1), expected, atol=1e-4
    )


@pytest.mark.parametrize(
    ("view", "seen"),
    [
        (whole(), lambda image: image),
        (whole(rotation=90), lambda image: np.rot90(image, -1)),  # clockwise
        (whole(flip=True), lambda image: image[:, ::-1]),
        (affine_view((10, 7), 8), lambda image: image[3:11, 6:14]),  # from the image's corner
    ],
    ids=["whole", "turned", "flipped", "part"],
)
def test_a_view_shows_that_part_of_image_and_mask(view, seen):
    image, mask = warped(picture(), blob(), Warp(view), len(seen(picture())))
    assert_same_picture(image, seen(picture()))
    assert_same_mask(mask, seen(blob()))


def test_beyond_the_border_is_black_and_never_target():
    view = affine_view((0, 0), 16)  # only the last quarter shows the image
    frame = np.full((16, 16, 3), 200, np.uint8), np.ones((16, 16), np.uint8)
    image, mask = warped(*frame, Warp(view), 16)
    assert (image[8:, 8:] == 200).all()
    assert (mask[8:, 8:] == 1).all()
    assert image.sum() == 200 * 3 * 64
    assert mask.sum() == 64


@pytest.mark.parametrize("side", [20, 32, 100])
def test_image_and_mask_move_together_and_frames_do_not_affect_each_other(side):
    rng = np.random.default_rng(4)
    views = [affine_view((15, 14), side, rotation=r, flip=True) for r in (17, -40)]
    warps = [Warp(view, rng.normal(scale=0.08, size=(CONTROL_POINTS**2, 2))) for view in views]
    painted = np.repeat(blob()[..., None] * np.uint8(255), 3, axis=-1)
    crops = warp_frames([with_cover(painted, blob())] * 2, warps, S)
    for crop, warp in zip(crops, warps, strict=True):
        assert_same_mask(crop[..., 0] > 127, covered(crop))
        assert_same_picture(crop[..., :3], warped(painted, blob(), warp, S)[0])


def test_strong_shrinking_averages():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::4] = 255  # without averaging, all pixels of the crop would miss or hit the stripes
    seen, _ = warped(stripes, stripes[..., 0] * 0, Warp(affine_view((64, 64), 128)), 16)
    np.testing.assert_allclose(seen, 255 / 4, atol=1)


def test_shrinking_keeps_the_place_and_on_request_touched_pixels():
    image, mask = np.zeros((120, 120, 3), np.uint8), np.zeros((120, 120), np.uint8)
    mask[24:84, 36:60] = 1
    warp = Warp(affine_view((60, 60), 120))  # 6 source pixels to one
    expected = np.zeros((20, 20), np.uint8)
    expected[4:14, 6:10] = 1
    np.testing.assert_array_equal(warped(image, mask, warp, 20)[1], expected)
    mask[102, 102] = 1
    np.testing.assert_array_equal(warped(image, mask, warp, 20)[1], expected)
    assert warped(image, mask, warp, 20, least=0)[1][17, 17] == 1
