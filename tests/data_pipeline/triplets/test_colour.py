"""One affine map of RGB changes brightness, contrast, saturation and hue."""

import numpy as np

from data_pipeline.triplets.colour import change_colour, colour_matrix, draw_jitter


def test_no_colour_change_is_the_identity():
    np.testing.assert_allclose(colour_matrix(np.zeros(4)), np.eye(3, 4), atol=1e-12)


def test_each_change_has_its_usual_meaning():
    pixel = np.array([[[200, 100, 60]]], np.uint8)
    grey = np.full((1, 1, 3), 128, np.uint8)

    def changed(image, *amounts):
        return change_colour(image, colour_matrix(np.array(amounts)))[0, 0].astype(int)

    np.testing.assert_allclose(changed(pixel, 0.2, 0, 0, 0), [240, 120, 72], atol=1)
    np.testing.assert_allclose(changed(grey, 0, 0.5, 0, 0), 128, atol=1)  # contrast keeps mid-grey
    np.testing.assert_allclose(changed(pixel, 0, 0.5, 0, 0), [236, 86, 26], atol=1)
    assert np.ptp(changed(pixel, 0, 0, -1, 0)) <= 1  # without saturation: grey
    np.testing.assert_allclose(changed(grey, 0, 0, 0.5, 0.8), 128, atol=1)  # grey has no hue
    turned = changed(pixel, 0, 0, 0, 2)  # 120 degrees: red to green, green to blue
    np.testing.assert_allclose(turned, [60, 200, 100], atol=1)


def test_each_frame_has_the_map_of_its_jitter():
    jitter = draw_jitter(np.random.default_rng(0), 0.8)
    alone = [colour_matrix(frame) for frame in jitter]
    np.testing.assert_allclose(colour_matrix(jitter), alone, rtol=1e-12)


def test_colours_are_clipped():
    image = np.array([[[250, 250, 250], [5, 5, 5]]], np.uint8)
    bright, contrast = (change_colour(image, colour_matrix(np.array(j)))
                        for j in ([0.5, 0, 0, 0], [0, 0.8, 0, 0]))  # fmt: skip
    assert (bright[0, 0] == 255).all()
    assert (contrast[0, 1] == 0).all()


def test_frames_share_most_of_their_colour_jitter():
    jitter = np.stack([draw_jitter(np.random.default_rng(seed), 0.2) for seed in range(200)])
    own = jitter - jitter.mean(axis=1, keepdims=True)
    assert np.abs(jitter).max() <= 0.25
    assert 0 < own.std() < 0.3 * jitter.std()
