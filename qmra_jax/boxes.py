"""Masks, boxes and box maps, and the one function each way between them.

A box is (x, y, width, height) in pixels; x + width and y + height are exclusive edges, so that a
box of one pixel has width 1. No box (an empty mask) is (0, 0, 0, 0). NumPy arrays and JAX arrays
alike: each function answers in the kind it was given, and works under `jit` and `vmap`.
"""

import numpy as np

from qmra_jax.errors import InputError


def mask_to_box(mask):
    """The tight box around what is not zero.

    Args:
      mask: `[..., h, w]`, bool or any number.

    Returns:
      int32 `[..., 4]`: x, y, width, height; all zero where the mask is empty.
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
    """The filled box: 1 inside, 0 outside. What reaches beyond the frame is cut off.

    Args:
      box: `[..., 4]`: x, y, width, height in pixels.
      height: of the map, in pixels.
      width: of the map, in pixels.

    Returns:
      float32 `[..., h, w]` in {0, 1}.
    """
    xp = box.__array_namespace__()
    x, y, w, h = (box[..., i, None] for i in range(4))
    columns, rows = xp.arange(width), xp.arange(height)
    inside_x = (columns >= x) & (columns < x + w)  # [..., w]
    inside_y = (rows >= y) & (rows < y + h)  # [..., h]
    return (inside_y[..., :, None] & inside_x[..., None, :]).astype(xp.float32)


def map_to_box(box_map, threshold: float = 0.5):
    """The tight box of a box map, such as the foreground probability of B_q.

    Args:
      box_map: `[..., h, w]` in [0, 1].
      threshold: what lies above it is inside.

    Returns:
      int32 `[..., 4]`: x, y, width, height; all zero where nothing is above the threshold.
    """
    return mask_to_box(box_map > threshold)


def check_box(box, height: int, width: int) -> np.ndarray:
    """The box as int32 `[4]`, once it is known to lie in the frame.

    Raises:
      InputError: if it is not four whole numbers, is empty, or leaves the frame.
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
    return np.asarray([x, y, w, h], np.int32)


def _text(values) -> str:
    return ",".join(f"{v:g}" for v in values)


def scale_boxes(boxes: np.ndarray, size: tuple[int, ...], new_size: tuple[int, ...]) -> np.ndarray:
    """Boxes of a frame in the same frame at another size, to the nearest pixel, none lost.

    Args:
      boxes: int `[n, 4]`: x, y, width, height.
      size: (height, width) of the frame that they belong to.
      new_size: (height, width) wanted.

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
