"""Draws a scene: its picture at a time, and its exact mask.

Masks are exact: a pixel has the label of the topmost layer that covers at least half of it. Only
pictures have soft edges, and they blur about the very moment that the mask is of. What a layer
covers is counted on 4x4 points a pixel, of which those on its outline count half.
"""

import functools
import itertools
import math
from collections.abc import Callable

import cv2
import numpy as np

from data_pipeline.synthetic.scene import Layer, Scene

FINE = 4  # points a pixel, each way, on which coverage is counted
POINT = 14  # what one of them counts, so that also the mean of halves is a whole number
FULL = POINT * FINE**2  # coverage of a whole pixel
SUBPIXEL_BITS = 4  # of the outline's coordinates
USUAL_HEIGHT = 240  # of a frame, in pixels, for which the lens's blur is given
ROOM = 64  # by which the noise is larger than a frame, to be cut from anywhere
NOISE_SPREAD = 32  # standard deviation of the noise picture, in grey levels


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
    to_pixels = _frame_to_pixels(height, width)
    # What lies below every object changes nothing.
    for layer in itertools.dropwhile(lambda layer: not layer.label, scene.layers):
        line = layer.part.outline.at(time)
        x, y, cover = _coverage(line, to_pixels @ scene.place(layer, time), height, width)
        window = labels[y : y + cover.shape[0], x : x + cover.shape[1]]
        window[cover >= FULL // 2] = layer.label
    return labels


def draw_image(
    scene: Scene, time: float, height: int, width: int, rng: np.random.Generator
) -> np.ndarray:
    """The picture at a time.

    Args:
      scene: what is seen.
      time: the middle of the exposure, in frames.
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      rng: of the sensor's noise.

    Returns:
      uint8 `[height, width, 3]`, RGB.
    """
    to_pixels = _frame_to_pixels(height, width)
    exposed = scene.shutter * height
    to_world = np.linalg.inv(to_pixels @ scene.camera.at(time))
    image = scene.background.sample(to_world, width, height)
    image = _blurred(image, _streak(scene.camera.at, time, exposed))
    for layer in scene.layers:
        streak = _streak(functools.partial(scene.place, layer), time, exposed)
        _paint(image, scene, layer, time, to_pixels, streak)
    image = cv2.multiply(image, _light(scene, time, height, width), scale=1 / 128)
    if scene.softness:
        image = cv2.GaussianBlur(image, (0, 0), scene.softness * height / USUAL_HEIGHT)
    x, y = rng.integers(0, ROOM, 2)
    grain = _noise_picture(height + ROOM, width + ROOM)[y : y + height, x : x + width]
    strength = scene.grain / NOISE_SPREAD
    return cv2.addWeighted(image, 1.0, grain, strength, -128 * strength)


def _frame_to_pixels(height: int, width: int) -> np.ndarray:
    """Frame heights from the middle to pixels, whole numbers at their centres: `[3, 3]`."""
    return np.array([[height, 0, (width - 1) / 2], [0, height, (height - 1) / 2], [0, 0, 1]], float)


def _coverage(
    line: np.ndarray, place: np.ndarray, height: int, width: int, margin: int = 0
) -> tuple[int, int, np.ndarray]:
    """How much of each pixel an outline encloses.

    Args:
      line: float64 `[n, 2]`, in its own unit.
      place: float64 `[3, 3]`, from that to pixels.
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      margin: pixels around the outline that the window has too.

    Returns:
      Left and top of the window of the picture that holds it, and uint8 `[h, w]`, 0 to FULL; the
      window may be empty.
    """
    line = line @ place[:2, :2].T + place[:2, 2]
    (left, top), (right, bottom) = line.min(axis=0).tolist(), line.max(axis=0).tolist()
    x, y = max(math.floor(left) - margin, 0), max(math.floor(top) - margin, 0)
    columns = min(math.ceil(right) + 1 + margin, width) - x
    rows = min(math.ceil(bottom) + 1 + margin, height) - y
    if columns < 1 or rows < 1:
        return 0, 0, np.zeros((0, 0), np.uint8)
    points = np.zeros((rows * FINE, columns * FINE), np.uint8)
    fine = (line - (x, y) + 0.5) * FINE - 0.5  # pixel centres to the points' own whole numbers
    fixed = np.round(fine * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(points, [fixed], FULL, shift=SUBPIXEL_BITS)  # with all points on the line
    cv2.polylines(points, [fixed], True, FULL // 2, shift=SUBPIXEL_BITS)
    return x, y, cv2.resize(points, (columns, rows), interpolation=cv2.INTER_AREA)


def _paint(
    image: np.ndarray,
    scene: Scene,
    layer: Layer,
    time: float,
    to_pixels: np.ndarray,
    streak: np.ndarray | None,
) -> None:
    """Paints a layer over the picture, in place."""
    margin = 0 if streak is None else len(streak) // 2
    place = to_pixels @ scene.place(layer, time)
    line = layer.part.outline.at(time)
    x, y, cover = _coverage(line, place, image.shape[0], image.shape[1], margin)
    if not cover.size:
        return
    height, width = cover.shape
    shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)
    to_wearer = np.linalg.inv(place) @ shift
    stuff = _blurred(layer.part.material.sample(to_wearer, width, height), streak)
    share = _blurred(cover, streak).astype(np.float32) / FULL
    window = image[y : y + height, x : x + width]
    window[:] = cv2.blendLinear(stuff, window, share, 1 - share)


def _streak(place: Callable[[float], np.ndarray], time: float, exposed: float) -> np.ndarray | None:
    """How a moving point smears: a kernel `[n, n]` that sums to 1; None below a pixel.

    Args:
      place: of what moves, over time.
      time: the middle of the exposure, in frames.
      exposed: the exposure in frames, times the pixels of a frame height.
    """
    if not exposed:
        return None
    dx, dy = exposed * (place(time + 0.5) - place(time - 0.5))[:2, 2]
    if math.hypot(dx, dy) < 1:
        return None
    radius = math.ceil(max(abs(dx), abs(dy)) / 2)
    kernel = np.zeros((2 * radius + 1,) * 2, np.float32)
    share = np.linspace(-0.5, 0.5, 6 * radius + 1)
    rows, columns = (np.round(radius + share * d).astype(int) for d in (dy, dx))
    np.add.at(kernel, (rows, columns), 1 / len(share))
    return kernel


def _blurred(image: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    if kernel is None:
        return image
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _light(scene: Scene, time: float, height: int, width: int) -> np.ndarray:
    """Gain of the light: uint8 `[height, width, 3]`, 128 for 1."""
    amplitude, speed, phase = np.moveaxis(scene.flicker, -1, 0)
    gain = scene.light + (amplitude * np.sin(speed * time + phase))[..., None]
    coarse = np.clip(np.round(128 * gain), 0, 255).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


@functools.lru_cache(maxsize=4)
def _noise_picture(height: int, width: int) -> np.ndarray:
    """Uint8 `[height, width, 3]` of mean 128 and deviation NOISE_SPREAD, which frames cut from."""
    noise = np.random.default_rng(0).normal(128, NOISE_SPREAD, (height, width, 3))
    return np.clip(np.round(noise), 0, 255).astype(np.uint8)
