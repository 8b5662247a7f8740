"""Three frames with one target, from a still image or from three frames of a video.

The first two frames are the memory, the third is the query. All functions are pure, given their
random generator.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from data_pipeline.triplets.colour import jittered
from data_pipeline.triplets.warp import (
    CONTROL_POINTS,
    Warp,
    affine_view,
    covered,
    warp_frames,
    with_cover,
)
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError

cv2.setNumThreads(1)  # the stream makes several triplets in parallel instead

MIN_VISIBLE = 1 / 512  # of the crop that is target, in every frame (72 pixels of 192x192)
MIDDLE = 0.6  # of the crop, each way: where a random pixel of the target lands
STRENGTHS = (1.0, 0.85, 0.7, 0.5, 0.3, 0.1)  # of the augmentation, in successive draws


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation.

    Attributes:
      crop: side of the frames, in pixels; a multiple of 16.
      rotation: largest angle, in degrees.
      scale: smallest and largest zoom; at 1 the image's shorter side fills the crop.
      shift: largest shift, as a share of the crop.
      shear: largest angle, in degrees.
      flip: mirror half of the triplets.
      tps: standard deviation of the thin-plate spline's control points, as a share of the crop; for
        still images only.
      colour_jitter: largest relative change of brightness, contrast, saturation and hue.

    Raises:
      InputError: if a value is out of range.
    """

    crop: int = 384
    rotation: float = 20.0
    scale: tuple[float, float] = (0.9, 1.5)
    shift: float = 0.1
    shear: float = 0.0
    flip: bool = True
    tps: float = 0.05
    colour_jitter: float = 0.2

    def __post_init__(self):
        if self.crop < 16 or self.crop % 16:
            raise InputError(f"data.crop={self.crop}: expected a positive multiple of 16")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(
                f"data.scale={self.scale}: expected (smallest, largest) zoom, both above 0"
            )
        for name, limit in (
            ("rotation", 180),
            ("shift", 1),
            ("shear", 60),
            ("tps", 0.5),
            ("colour_jitter", 0.8),
        ):
            if not 0 <= (value := getattr(self, name)) <= limit:
                raise InputError(f"data.{name}={value}: expected a number from 0 to {limit}")

    @classmethod
    def from_config(cls, data: Any) -> "Augmentation":
        """Takes the fields of the same names from the `data` part of a config."""
        values = {field.name: getattr(data, field.name) for field in dataclasses.fields(cls)}
        return cls(**(values | {"scale": tuple(values["scale"])}))


class Triplet(NamedTuple):
    """Two memory frames and the query.

    Attributes:
      images: uint8 `[3, s, s, 3]`, RGB.
      masks: uint8 `[3, s, s]`: 1 where the target is, else 0.
      boxes: int32 `[3, 4]`: the masks' tight boxes, x, y, width, height.
    """

    images: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray


def static_triplet(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, augmentation: Augmentation
) -> Triplet:
    """Three frames from one image, each with its own rotation, zoom, shift, shear and spline.

    The place and the mirroring are shared, so that the three frames show the same scene.

    Args:
      image: uint8 `[h, w, 3]`, RGB.
      mask: uint8 `[h, w]` in {0, 1}: the target; not empty.
      rng: source of all randomness.
      augmentation: its settings.
    """
    fit = float(min(mask.shape))

    def draw(strength: float) -> list[Warp]:
        centre = _place(mask, fit, rng, strength)
        flip = augmentation.flip and rng.random() < 0.5
        warps = []
        for _ in range(3):
            side = fit / _zoom(rng, augmentation, strength)
            shift = strength * augmentation.shift * side * rng.uniform(-1, 1, 2)
            view = _view(centre + shift, side, flip, rng, augmentation, strength)
            warps.append(Warp(view, _bend(rng, augmentation, strength)))
        return warps

    return _triplet([with_cover(image, mask)] * 3, [mask] * 3, draw, rng, augmentation)


def video_triplet(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> Triplet:
    """Three frames of a video in one shared view, near the target's place in the first frame.

    Args:
      images: three times uint8 `[h, w, 3]`, RGB, in temporal order.
      masks: three times uint8 `[h, w]` in {0, 1}: the target; none empty.
      rng: source of all randomness.
      augmentation: its settings; `shift` and `tps` do not apply.
    """
    fit = float(min(masks[0].shape))

    def draw(strength: float) -> list[Warp]:
        side = fit / _zoom(rng, augmentation, strength)
        centre = _place(masks[0], side, rng, strength)
        flip = augmentation.flip and rng.random() < 0.5
        return [Warp(_view(centre, side, flip, rng, augmentation, strength))] * 3

    frames = [with_cover(i, m) for i, m in zip(images, masks, strict=True)]
    return _triplet(frames, masks, draw, rng, augmentation)


def _triplet(
    frames: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    draw: Callable[[float], list[Warp]],
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> Triplet:
    """Draws ever milder warps until the target is visible in all three frames."""
    size = augmentation.crop
    for strength in STRENGTHS:
        crops = warp_frames(frames, draw(strength), size)
        seen = [covered(crop) for crop in crops]
        if min(map(cv2.countNonZero, seen)) >= MIN_VISIBLE * size**2:
            break
    else:  # tiny, or moving out of every crop: fit a window around it
        crops = warp_frames(frames, [Warp(_fitted_view(masks))] * 3, size)
        seen = [covered(crop, least=0) for crop in crops]
    images = [cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB) for crop in crops]
    images = jittered(images, rng, augmentation.colour_jitter)
    shown = np.stack(seen)
    return Triplet(np.stack(images), shown, mask_to_box(shown))


def _place(mask: np.ndarray, side: float, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A window's centre (x, y), such that a random pixel of the target lies in its `MIDDLE`.

    The window is then moved into the image as far as possible, so that little is black.
    """
    inside = cv2.findNonZero(mask)[:, 0]  # x, y
    spread = strength * MIDDLE / 2 * side
    centre = inside[rng.integers(len(inside))] + 0.5 + rng.uniform(-spread, spread, 2)
    length = np.array([mask.shape[1], mask.shape[0]])
    edges = np.sort([np.full(2, side / 2), length - side / 2], axis=0)
    return np.clip(centre, *edges)


def _zoom(rng: np.random.Generator, augmentation: Augmentation, strength: float) -> float:
    low, high = np.log(augmentation.scale)
    return float(np.exp(strength * rng.uniform(low, high)))


def _view(
    centre: np.ndarray,
    side: float,
    flip: bool,
    rng: np.random.Generator,
    augmentation: Augmentation,
    strength: float,
) -> np.ndarray:
    rotation, shear = strength * rng.uniform(-1, 1, 2) * (augmentation.rotation, augmentation.shear)
    return affine_view(centre, side, rotation=rotation, shear=shear, flip=flip)


def _bend(
    rng: np.random.Generator, augmentation: Augmentation, strength: float
) -> np.ndarray | None:
    """The control points' displacement; the crop is 2 wide in u and v."""
    if not augmentation.tps:
        return None
    return 2 * strength * augmentation.tps * rng.normal(size=(CONTROL_POINTS**2, 2))


def _fitted_view(masks: Sequence[np.ndarray]) -> np.ndarray:
    """A window that is a quarter larger than the box around the target in all frames."""
    x, y, width, height = mask_to_box(np.maximum.reduce(masks))
    return affine_view((x + width / 2, y + height / 2), 1.25 * max(width, height))
