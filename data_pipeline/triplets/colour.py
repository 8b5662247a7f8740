"""Colour jitter as one affine map of RGB: brightness, contrast, saturation and hue composed."""

from collections.abc import Sequence

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
OWN_SHARE = 0.25  # of the jitter that each frame draws by itself, beside what the triplet shares
HUE_TURN = 60.0  # degrees of hue at a jitter of 1, so 12 at 0.2

EYE = np.eye(3)
GREY = np.tile(LUMA, (3, 1))  # projects on the grey axis, keeping the luma
AXIS = np.full((3, 3), 1 / 3)  # projects on the grey axis, at a right angle
CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # the product with that axis


def draw_jitter(rng: np.random.Generator, strength: float, frames: int = 3) -> np.ndarray:
    """Brightness, contrast, saturation and hue of each frame: alike, with a small part of its own.

    Args:
      rng: where the numbers come from.
      strength: greatest relative change, such as 0.2; 0 is none.
      frames: how many.

    Returns:
      float64 `[frames, 4]`, within ±strength · (1 + OWN_SHARE).
    """
    shared, own = rng.uniform(-1, 1, (1, 4)), rng.uniform(-1, 1, (frames, 4))
    return strength * (shared + OWN_SHARE * own)


def colour_matrix(jitter: np.ndarray) -> np.ndarray:
    """The maps of RGB in [0, 255] that change all four by relative amounts.

    Args:
      jitter: `[..., 4]`: of brightness, contrast, saturation and hue; 0 leaves it as it is.

    Returns:
      float64 `[..., 3, 4]`: linear part and offset.
    """
    brightness, contrast, saturation, hue = np.moveaxis(jitter, -1, 0)[..., None, None]
    angle = np.deg2rad(HUE_TURN * hue)
    turn = np.cos(angle) * (EYE - AXIS) + np.sin(angle) * CROSS + AXIS  # Rodrigues
    linear = (1 + brightness) * (1 + contrast) * (GREY + (1 + saturation) * (EYE - GREY)) @ turn
    offset = np.broadcast_to(-128.0 * contrast, (*linear.shape[:-1], 1))  # turns about mid-grey
    return np.concatenate([linear, offset], axis=-1)


def change_colour(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies `colour_matrix` to a uint8 RGB image `[h, w, 3]`; what leaves [0, 255] is clipped."""
    return cv2.transform(image, matrix)


def jittered(
    images: Sequence[np.ndarray], rng: np.random.Generator, strength: float
) -> list[np.ndarray]:
    """The frames of a triplet, uint8 `[h, w, 3]` each, with changes drawn; as they are at 0."""
    if not strength:
        return list(images)
    changes = colour_matrix(draw_jitter(rng, strength, len(images)))
    return [change_colour(i, c) for i, c in zip(images, changes, strict=True)]
