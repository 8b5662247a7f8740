"""Renders a scene: its image and its exact label map at a time.

A pixel has the label of the topmost figure that covers at least half of it; images blend figures by
coverage. Coverage is counted on 4x4 points per pixel, of which those on an outline count half.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from data_pipeline.synthetic.scene import Figure, Scene

POINTS = 4  # per pixel, each way, on which coverage is counted
WEIGHT = 14  # of one point; even, so that half of it is a whole number
FULL = WEIGHT * POINTS**2  # coverage of a whole pixel
SUBPIXEL_BITS = 4  # of the outline's coordinates


def draw_labels(scene: Scene, time: float, height: int, width: int) -> np.ndarray:
    """The visible objects at a time: uint8 `[height, width]`, 0 background, 1..n the objects."""
    labels = np.zeros((height, width), np.uint8)
    for figure, _, window, cover in _visible(scene, time, height, width):
        labels[window][cover >= FULL // 2] = figure.label
    return labels


def draw_image(
    scene: Scene, time: float, height: int, width: int, rng: np.random.Generator
) -> np.ndarray:
    """The image at a time, with sensor noise from `rng`: uint8 `[height, width, 3]`, RGB."""
    to_background = np.linalg.inv(_to_pixels(height, width) @ scene.camera.at(time))
    image = scene.background.sample(to_background, width, height)
    for figure, to_pixels, window, cover in _visible(scene, time, height, width):
        rows, columns = window
        corner = np.array([[1.0, 0, columns.start], [0, 1, rows.start], [0, 0, 1]])
        to_figure = np.linalg.inv(to_pixels) @ corner
        surface = figure.texture.sample(to_figure, *cover.shape[::-1])
        weight = cover.astype(np.float32) / FULL
        image[window] = cv2.blendLinear(surface, image[window], weight, 1 - weight)
    noise = scene.noise * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def _to_pixels(height: int, width: int) -> np.ndarray:
    """From frame heights about the centre to pixels, integers at pixel centres: `[3, 3]`."""
    return np.array([[height, 0, (width - 1) / 2], [0, height, (height - 1) / 2], [0, 0, 1]])


def _visible(
    scene: Scene, time: float, height: int, width: int
) -> Iterator[tuple[Figure, np.ndarray, tuple[slice, slice], np.ndarray]]:
    """The figures that reach into the frame, from back to front.

    Yields:
      The figure; float64 `[3, 3]`, from its own unit to pixels; the window of rows and columns that
      it lies in; and its coverage there, uint8 `[rows, columns]` from 0 to `FULL`.
    """
    for figure in scene.figures:
        to_pixels = _to_pixels(height, width) @ figure.motion.at(time)
        line = figure.outline(time) @ to_pixels[:2, :2].T + to_pixels[:2, 2]
        left, top = np.maximum(np.floor(line.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(line.max(axis=0)) + 1, (width, height)).astype(int)
        if right <= left or bottom <= top:
            continue
        points = np.zeros(((bottom - top) * POINTS, (right - left) * POINTS), np.uint8)
        fine = (line - (left, top) + 0.5) * POINTS - 0.5
        fixed = np.round(fine * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(points, [fixed], FULL, shift=SUBPIXEL_BITS)  # fills points on the line too
        cv2.polylines(points, [fixed], True, FULL // 2, shift=SUBPIXEL_BITS)
        cover = cv2.resize(points, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        yield figure, to_pixels, (slice(top, bottom), slice(left, right)), cover
