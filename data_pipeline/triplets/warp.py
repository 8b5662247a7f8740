"""Affine views and thin-plate splines, composed so that each frame is resampled once.

Coordinates of the crop are normalised: u and v run from -1 (left, top edge) to 1 (right, bottom
edge), and the centre of pixel j of s lies at (2j + 1) / s - 1. A *view* is a 2x3 matrix that maps
(u, v, 1) to pixels of the source (x to the right, y down, integers at pixel centres, as in OpenCV).
The spline bends the crop before the view is applied:

    source = view · [ (u, v) + d(u, v), 1 ],    d(p_i) = delta_i at each control point p_i.

d is linear in the delta_i, hence a sum of fixed basis images, computed once per crop size
(Bookstein 1989, eq. 4-8, solved for unit displacements). The sampling positions of a frame are then
one small matrix product, exact at every pixel.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

CONTROL_POINTS = 4  # per side: the grid is 4x4, from edge to edge of the crop
OUTSIDE = (0, 0, 0, 0)  # beyond the image: black, as padding at inference, and not target


class Warp(NamedTuple):
    """The sampling of a frame.

    Attributes:
      view: float64 `[2, 3]`, from `affine_view`.
      displacement: float64 `[16, 2]`, delta of the `control_points` in u, v; None: no spline.
    """

    view: np.ndarray
    displacement: np.ndarray | None = None


def affine_view(
    centre: tuple[float, float] | np.ndarray,
    side: float,
    *,
    rotation: float = 0.0,
    shear: float = 0.0,
    flip: bool = False,
) -> np.ndarray:
    """The affine view of a square window of the source.

    Args:
      centre: x, y of the window's centre in source pixels, from the image's top left corner (a 4x4
        image has its centre at 2, 2).
      side: of the window, in source pixels.
      rotation: degrees; the content turns clockwise.
      shear: degrees, along x.
      flip: mirror the content left to right first.

    Returns:
      float64 `[2, 3]`: maps (u, v, 1) of the crop to x, y of the source.
    """
    angle, slant = np.deg2rad(rotation), np.tan(np.deg2rad(shear))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = np.diag([-1.0 if flip else 1.0, 1.0]) @ turn @ np.array([[1.0, slant], [0.0, 1.0]])
    offset = np.reshape(centre, (2, 1)) - 0.5  # edges to pixel centres
    return np.concatenate([side / 2 * linear, offset], axis=1)


def control_points() -> np.ndarray:
    """The spline's control points, float64 `[16, 2]`: u, v, row by row."""
    line = np.linspace(-1.0, 1.0, CONTROL_POINTS)
    v, u = np.meshgrid(line, line, indexing="ij")
    return np.stack([u.ravel(), v.ravel()], axis=1)


def positions(warps: Sequence[Warp], size: int) -> np.ndarray:
    """The source position of each pixel of the crops: float32 `[n, 2, size, size]`, x and y.

    Args:
      warps: n of them, all with a spline or all without.
      size: of the crops, in pixels.
    """
    coefficients = np.concatenate([_coefficients(warp) for warp in warps])
    # One product for all: reading the basis from memory takes longer than multiplying by it.
    rows = coefficients.astype(np.float32) @ _basis(size, bent=coefficients.shape[1] > 3)
    return rows.reshape(size, len(warps), 2, size).transpose(1, 2, 0, 3)


def _coefficients(warp: Warp) -> np.ndarray:
    """The weights of the `_basis` that give x and y of the source: float64 `[2, 3 or 19]`."""
    affine = warp.view[:, [2, 0, 1]]
    if warp.displacement is None:
        return affine
    return np.hstack([affine, warp.view[:, :2] @ warp.displacement.T])


@functools.lru_cache(maxsize=8)
def _basis(size: int, bent: bool) -> np.ndarray:
    """Images of 1, u, v and, if `bent`, of d where one control point moves by 1, for each point.

    float32 `[size, 3 or 19, size]`: row by row, for one small product per row. For one large
    product BLAS would start threads, which cost several times the work.
    """
    line = (2 * np.arange(size) + 1) / size - 1
    v, u = np.meshgrid(line, line, indexing="ij")
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)  # [size * size, 2]
    affine = np.concatenate([np.ones((len(pixels), 1)), pixels], axis=1)
    basis = affine
    if bent:
        control = control_points()
        n = len(control)
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = _kernel(control, control)
        system[:n, n:] = np.concatenate([np.ones((n, 1)), control], axis=1)
        system[n:, :n] = system[:n, n:].T
        weights = np.linalg.inv(system)[:, :n]  # of unit displacements: [n + 3, n]
        moved = np.concatenate([_kernel(pixels, control), affine], axis=1) @ weights
        basis = np.concatenate([affine, moved], axis=1)
    rows = basis.reshape(size, size, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(rows, np.float32)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """r² log r² between `a` `[m, 2]` and `b` `[n, 2]`: `[m, n]`, 0 at r = 0."""
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return squared * np.log(np.where(squared > 0, squared, 1.0))


def with_cover(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image, uint8 `[h, w, 3]`, and its mask, uint8 `[h, w]` in {0, 1}, to resample together.

    Returns:
      uint8 `[h, w, 4]`: the image, and the share of each pixel that is target, 255 for all of it.
    """
    frame = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    frame[..., 3] = mask * np.uint8(255)
    return frame


def covered(frame: np.ndarray, least: float = 0.5) -> np.ndarray:
    """The mask of a resampled frame: uint8 `[h, w]` in {0, 1}.

    Args:
      frame: uint8 `[h, w, 4]`, from `with_cover`.
      least: share of a pixel that must be exceeded; at 0 any touched pixel is target.
    """
    return cv2.threshold(cv2.extractChannel(frame, 3), int(255 * least), 1, cv2.THRESH_BINARY)[1]


def warp_frames(frames: Sequence[np.ndarray], warps: Sequence[Warp], size: int) -> list[np.ndarray]:
    """Samples a crop per frame, uint8 `[size, size, 4]`, bilinearly; black beyond the border.

    Args:
      frames: uint8 `[h, w, 4]`, from `with_cover`.
      warps: of the frames, all with a spline or all without.
      size: of the crops, in pixels.
    """
    sources = [_shrink(frame, warp, size) for frame, warp in zip(frames, warps, strict=True)]
    looks = positions([warp for _, warp in sources], size)
    return [
        cv2.remap(source, x, y, cv2.INTER_LINEAR, borderValue=OUTSIDE)
        for (source, _), (x, y) in zip(sources, looks, strict=True)
    ]


def _shrink(array: np.ndarray, warp: Warp, size: int) -> tuple[np.ndarray, Warp]:
    """Shrinks the source by an integer factor where the crop would skip pixels; adapts the warp."""
    (a, b), (c, d) = warp.view[:, :2]
    step = int(2 * np.sqrt(abs(a * d - b * c)) / size + 1e-6)
    if step < 2:
        return array, warp
    height, width = array.shape[:2]
    new_width, new_height = max(1, round(width / step)), max(1, round(height / step))
    ratio = np.array([[new_width / width], [new_height / height]])
    view = warp.view * ratio
    view[:, 2:] += (ratio - 1) / 2  # pixel centres: x' = (x + 1/2) ratio - 1/2
    array = cv2.resize(array, (new_width, new_height), interpolation=cv2.INTER_AREA)
    return array, Warp(view, warp.displacement)
