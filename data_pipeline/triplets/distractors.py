"""Triplets with a second object, and triplets whose query does not show the target.

Still images mostly show one object, which a network learns to find whatever the box. With a second
object pasted in, the box has to tell which one is meant: an object of any image, of the same
dataset, or the target again (Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation
Method for Instance Segmentation"). A query without the target teaches that there may be nothing to
find.
"""

import numpy as np

from data_pipeline.triplets.colour import jittered
from data_pipeline.triplets.triplets import MIN_VISIBLE, Augmentation, Triplet, static_triplet
from data_pipeline.triplets.warp import Warp, affine_view, covered, warp_frames, with_cover
from qmra_jax.boxes import mask_to_box

SIZE = (0.2, 0.7)  # longer side of what is pasted, as a share of the crop
ITSELF_SIZE = (0.75, 1.3)  # the same of a second copy of the target, relative to the target
MOTION = 0.08  # standard deviation of its place between frames, as a share of the crop
GROWTH = 0.1  # standard deviation of its log size between frames
MIN_LEFT = 0.4  # of the target that must stay visible in each frame; else it goes in front


def add_distractor(
    triplet: Triplet,
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    augmentation: Augmentation,
    *,
    may_be_target: bool,
    size: tuple[float, float] = SIZE,
) -> Triplet:
    """Pastes an object of another image, in front of the target or behind it.

    The object has a motion of its own. If `may_be_target`, it becomes the target half of the time,
    so that being pasted does not tell the two apart.

    Args:
      triplet: not changed.
      image: uint8 `[h, w, 3]`, RGB.
      mask: uint8 `[h, w]` in {0, 1}: the object; not empty.
      rng: source of all randomness.
      augmentation: crop size, and range of views and colours.
      may_be_target: whether the two may swap roles.
      size: range of the longer side of what is pasted, as a share of the crop.

    Returns:
      A triplet of the same shapes, with its target visible in every frame.
    """
    crops = warp_frames(
        [with_cover(image, mask)] * 3, _warps(mask, rng, augmentation, size), augmentation.crop
    )
    cover = np.stack([crop[..., 3] for crop in crops])
    shown = np.stack([covered(crop) for crop in crops])
    pasted = np.stack(jittered([crop[..., :3] for crop in crops], rng, augmentation.colour_jitter))
    visible = MIN_VISIBLE * augmentation.crop**2
    swap, front = rng.random(2) < 0.5
    if swap and may_be_target and (_areas(shown) >= visible).all():
        masks = shown
    else:
        masks = triplet.masks * (1 - shown)
        least = np.maximum(MIN_LEFT * _areas(triplet.masks), visible)
        if not front or (_areas(masks) < least).any():
            masks = triplet.masks
            cover = cover * (1 - masks)
    weight = cover[..., None].astype(np.float32) / 255
    images = triplet.images + weight * (pasted - triplet.images.astype(np.float32))
    return Triplet(np.round(images).astype(np.uint8), masks, mask_to_box(masks))


def add_itself(triplet: Triplet, rng: np.random.Generator, augmentation: Augmentation) -> Triplet:
    """Pastes the target a second time, from one of its own frames; arguments as `add_distractor`.

    The copy has about the same size and is never the target: only the memory tells them apart.
    """
    frame = int(rng.integers(3))
    image, mask = triplet.images[frame], triplet.masks[frame]
    side = float(mask_to_box(mask)[2:].max()) / augmentation.crop
    size = (ITSELF_SIZE[0] * side, ITSELF_SIZE[1] * side)
    return add_distractor(triplet, image, mask, rng, augmentation, may_be_target=False, size=size)


def without_target(
    triplet: Triplet,
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> Triplet:
    """Replaces the query by another image, which does not show the target.

    Args:
      triplet: keeps its memory frames; not changed.
      image: uint8 `[h, w, 3]`, RGB, of another scene.
      mask: uint8 `[h, w]` in {0, 1}: an object that the query will show; not empty.
      rng: source of all randomness.
      augmentation: of the query.

    Returns:
      A triplet of the same shapes; the query's mask is empty and its box all zero.
    """
    query = static_triplet(image, mask, rng, augmentation).images[2]
    images, masks = triplet.images.copy(), triplet.masks.copy()
    images[2], masks[2] = query, 0
    return Triplet(images, masks, mask_to_box(masks))


def _warps(
    mask: np.ndarray,
    rng: np.random.Generator,
    augmentation: Augmentation,
    sizes: tuple[float, float],
) -> list[Warp]:
    """Three views with the object anywhere in the crop, slightly different from each other."""
    x, y, width, height = (int(v) for v in mask_to_box(mask))
    size = np.exp(rng.uniform(*np.log(sizes)))
    place = rng.uniform(-0.5, 0.5, 2)
    flip = augmentation.flip and rng.random() < 0.5
    warps = []
    for _ in range(3):
        side = max(width, height) / (size * np.exp(rng.normal(0, GROWTH)))
        offset = place + rng.normal(0, MOTION, 2)
        centre = np.array([x + width / 2, y + height / 2]) - side * offset * (-1 if flip else 1, 1)
        rotation = augmentation.rotation * rng.uniform(-1, 1)
        warps.append(Warp(affine_view(centre, side, rotation=rotation, flip=flip)))
    return warps


def _areas(masks: np.ndarray) -> np.ndarray:
    return np.count_nonzero(masks, axis=(1, 2))
