"""Conversions between masks, boxes and box maps.

A box is (x, y, width, height) in pixels; a box of one pixel has width 1, and an empty mask has the
box (0, 0, 0, 0). Conversions take NumPy or JAX arrays, return the same kind, and work under `jit`
and `vmap`.
"""

import numpy as np

from qmra_jax.errors import InputError


def mask_to_box(mask):
    """The tight box around the non-zero pixels.

    Args:
      mask: `[..., h, w]`, bool or numeric.

    Returns:
      int32 `[..., 4]`; all zero where the mask is empty.
    """
    xp = mask.__array_namespace__()
    mask = mask != 0

    def extent(line):  # [..., size] -> first, last + 1
        size = line.shape[-1]
        first = xp.argmax(line, axis=-1)
        stop = size - xp.argmax(xp.flip(line, axis=-1), axis=-1)
        any_ = xp.any(line, axis=-1)
        return xp.where(any_, first, 0), xp.where(any_, stop, 0)

    left, right = extent(xp.any(mask, axis=-2))
    top, bottom = extent(xp.any(mask, axis=-1))
    return xp.stack([left, top, right - left, bottom - top], axis=-1).astype(xp.int32)


def box_to_map(box, height: int, width: int):
    """The filled box `[..., 4]`, clipped to the frame: float32 `[..., height, width]` in {0, 1}."""
    xp = box.__array_namespace__()
    x, y, w, h = (box[..., i, None] for i in range(4))
    columns, rows = xp.arange(width), xp.arange(height)
    inside_x = (columns >= x) & (columns < x + w)  # [..., w]
    inside_y = (rows >= y) & (rows < y + h)  # [..., h]
    return (inside_y[..., :, None] & inside_x[..., None, :]).astype(xp.float32)


def map_to_box(box_map, threshold: float = 0.5):
    """The tight box of a map `[..., h, w]`, such as B_q's foreground probability.

    Returns:
      int32 `[..., 4]`; all zero where no pixel is above the threshold.
    """
    return mask_to_box(box_map > threshold)


def check_box(box, height: int, width: int) -> np.ndarray:
    """Checks that a box lies in a frame and returns it as int32 `[4]`.

    Raises:
      InputError: if it is not four whole numbers, is empty, or exceeds the frame.
    """
    values = np.asarray(box)
    if values.shape != (4,) or not np.issubdtype(values.dtype, np.number):
        raise InputError(f"box {box!r}: expected four numbers x,y,width,height")
    if not np.isfinite(values).all() or not np.array_equal(values, np.round(values)):
        raise InputError(f"box {_text(values)}: expected whole pixels x,y,width,height")
    x, y, w, h = (int(v) for v in values)
    if w < 1 or h < 1:
        raise InputError(
            f"box {_text(values)} is empty: width and height must be at least 1 pixel"
            " (the order is x,y,width,height)"
        )
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise InputError(
            f"box {_text(values)} reaches outside the frame, which is {width} wide and {height}"
            f" high: x + width must be at most {width} and y + height at most {height}"
            " (the order is x,y,width,height)"
        )
    return values.astype(np.int32)


def _text(values) -> str:
    return ",".join(f"{v:g}" for v in values)


def scale_boxes(boxes: np.ndarray, size: tuple[int, ...], new_size: tuple[int, ...]) -> np.ndarray:
    """Scales boxes with their frame, to the nearest pixel; no box becomes empty.

    Args:
      boxes: int `[n, 4]`.
      size: (height, width) of their frame.
      new_size: (height, width) to scale to.

    Returns:
      int32 `[n, 4]`.
    """
    y, x = (new / old for new, old in zip(new_size, size, strict=True))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.round(corners * [x, y, x, y]).astype(np.int32)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    seen = (boxes[:, 2:] > 0).all(axis=1, keepdims=True)
    extent = np.where(seen, np.maximum(extent, 1), 0)  # a thin box stays a pixel wide,
    start = np.minimum(start, np.asarray(new_size[1::-1]) - extent)  # and within the frame
    return np.concatenate([start, extent], axis=1).astype(np.int32)
