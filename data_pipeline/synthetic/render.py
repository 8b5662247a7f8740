"""Draws a scene: its picture at a time, and its exact mask.

Masks are exact: a pixel has the label of the topmost figure that covers at least half of it. Only
pictures have soft edges. What a figure covers is counted on 4x4 points a pixel, of which those on
its outline count half.
"""

import itertools
import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from data_pipeline.synthetic.scene import Figure, Scene

FINE = 4  # points a pixel, each way, on which coverage is counted
POINT = 14  # what one of them counts, so that also the mean of halves is a whole number
FULL = POINT * FINE**2  # coverage of a whole pixel
SUBPIXEL_BITS = 4  # of the outline's coordinates
USUAL_HEIGHT = 240  # of a frame, in pixels


def draw_labels(scene: Scene, time: float, height: int, width: int) -> np.ndarray:
    """The visible objects at a time.

    Args:
      scene: what is seen.
      time: in frames.
      height: of the mask, in pixels.
      width: of the mask, in pixels.

    Returns:
      uint8 `[height, width]`: 0 background, 1..n the objects.
    """
    labels = np.zeros((height, width), np.uint8)
    # What lies below every object changes nothing.
    figures = itertools.dropwhile(lambda figure: not figure.label, scene.figures)
    for figure, _, window, cover in _drawn(scene, figures, time, height, width):
        labels[window][cover >= FULL // 2] = figure.label
    return labels


def draw_image(
    scene: Scene, time: float, height: int, width: int, rng: np.random.Generator
) -> np.ndarray:
    """The picture at a time.

    Args:
      scene: what is seen.
      time: in frames.
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      rng: of the sensor's noise.

    Returns:
      uint8 `[height, width, 3]`, RGB.
    """
    to_world = np.linalg.inv(_frame_to_pixels(height, width) @ scene.camera.at(time))
    image = scene.background.sample(to_world, width, height)
    for figure, place, window, cover in _drawn(scene, scene.figures, time, height, width):
        y, x = (part.start for part in window)
        shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)
        stuff = figure.texture.sample(np.linalg.inv(place) @ shift, *cover.shape[::-1])
        share = cover.astype(np.float32) / FULL
        image[window] = cv2.blendLinear(stuff, image[window], share, 1 - share)
    gain = np.clip(np.round(128 * scene.light), 0, 255).astype(np.uint8)
    image = cv2.multiply(image, cv2.resize(gain, (width, height)), scale=1 / 128)
    noise = scene.grain * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def _frame_to_pixels(height: int, width: int) -> np.ndarray:
    """Frame heights from the middle to pixels, whole numbers at their centres: `[3, 3]`."""
    return np.array([[height, 0, (width - 1) / 2], [0, height, (height - 1) / 2], [0, 0, 1]], float)


def _drawn(
    scene: Scene, figures: Iterable[Figure], time: float, height: int, width: int
) -> Iterator[tuple[Figure, np.ndarray, tuple[slice, slice], np.ndarray]]:
    """How much of each pixel each figure covers, for those that reach into the picture.

    Yields:
      The figure; its place, float64 `[3, 3]`, from its own unit to pixels; the rows and columns of
      the picture that hold it; and uint8 `[rows, columns]`, 0 to FULL.
    """
    to_pixels = _frame_to_pixels(height, width)
    for figure in figures:
        place = to_pixels @ scene.place(figure, time)
        line = figure.outline(time) @ place[:2, :2].T + place[:2, 2]
        (left, top), (right, bottom) = line.min(axis=0).tolist(), line.max(axis=0).tolist()
        x, y = max(math.floor(left), 0), max(math.floor(top), 0)
        columns, rows = min(math.ceil(right) + 1, width) - x, min(math.ceil(bottom) + 1, height) - y
        if columns < 1 or rows < 1:
            continue
        points = np.zeros((rows * FINE, columns * FINE), np.uint8)
        fine = (line - (x, y) + 0.5) * FINE - 0.5  # pixel centres to the points' own whole numbers
        fixed = np.round(fine * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(points, [fixed], FULL, shift=SUBPIXEL_BITS)  # with all points on the line
        cv2.polylines(points, [fixed], True, FULL // 2, shift=SUBPIXEL_BITS)
        cover = cv2.resize(points, (columns, rows), interpolation=cv2.INTER_AREA)
        yield figure, place, (slice(y, y + rows), slice(x, x + columns)), cover
