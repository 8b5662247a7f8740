"""Colour jitter: brightness, contrast, saturation and hue composed into one affine map of RGB."""

from collections.abc import Sequence

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
FRAME_SHARE = 0.25  # jitter of a single frame, relative to the jitter that all three share
HUE_TURN = 60.0  # degrees of hue at a jitter of 1, so 12 at 0.2

EYE = np.eye(3)
GREY = np.tile(LUMA, (3, 1))  # projects onto the grey axis, keeping the luma
AXIS = np.full((3, 3), 1 / 3)  # projects onto the grey axis orthogonally
CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # cross product with that axis


def draw_jitter(rng: np.random.Generator, strength: float, frames: int = 3) -> np.ndarray:
    """Draws changes of brightness, contrast, saturation and hue, mostly shared by the frames.

    Returns:
      float64 `[frames, 4]`, within ±strength · (1 + FRAME_SHARE).
    """
    shared, single = rng.uniform(-1, 1, (1, 4)), rng.uniform(-1, 1, (frames, 4))
    return strength * (shared + FRAME_SHARE * single)


def colour_matrix(jitter: np.ndarray) -> np.ndarray:
    """The affine maps of RGB in [0, 255] with these changes, float64 `[..., 3, 4]`.

    Args:
      jitter: `[..., 4]`: relative change of brightness, contrast, saturation and hue.
    """
    brightness, contrast, saturation, hue = np.moveaxis(jitter, -1, 0)[..., None, None]
    angle = np.deg2rad(HUE_TURN * hue)
    turn = np.cos(angle) * (EYE - AXIS) + np.sin(angle) * CROSS + AXIS  # Rodrigues
    linear = (1 + brightness) * (1 + contrast) * (GREY + (1 + saturation) * (EYE - GREY)) @ turn
    offset = np.broadcast_to(-128.0 * contrast, (*linear.shape[:-1], 1))  # contrast keeps mid-grey
    return np.concatenate([linear, offset], axis=-1)


def change_colour(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies a `colour_matrix` to a uint8 RGB image `[h, w, 3]`, clipped to [0, 255]."""
    return cv2.transform(image, matrix)


def jittered(
    images: Sequence[np.ndarray], rng: np.random.Generator, strength: float
) -> list[np.ndarray]:
    """The frames of a triplet, uint8 `[h, w, 3]` each, with jitter; unchanged at strength 0."""
    if not strength:
        return list(images)
    changes = colour_matrix(draw_jitter(rng, strength, len(images)))
    return [change_colour(i, c) for i, c in zip(images, changes, strict=True)]
