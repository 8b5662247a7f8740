"""Pictures for people: masks over frames, strips of a video, sheets of training triplets.

Every image in and out is uint8 `[h, w, 3]` RGB. An object has one colour wherever it is shown.
"""

import unicodedata
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qmra_jax.errors import InputError
from qmra_jax.masks import PALETTE

_PAPER, _INK, _WHITE = (255, 255, 255), (60, 60, 67), (255, 255, 255)
_GAP = 6  # pixels between pictures


def object_colour(label: int) -> np.ndarray:
    """The colour that stands for an object in pictures: uint8 `[3]` RGB.

    It has the hue of the label's colour in DAVIS's palette, lifted so that it also shows on dark
    frames (the palette's first colour is a dark red).
    """
    return (48 + PALETTE[label].astype(np.float32) * 1.4).clip(0, 255).astype(np.uint8)


def overlay(
    frame: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray | None = None,
    *,
    ids: Sequence[int] | None = None,
    alpha: float = 0.5,
) -> np.ndarray:
    """The frame with every object tinted and outlined in its colour, and its box drawn.

    Args:
      frame: uint8 `[h, w, 3]`; it is not changed.
      labels: uint8 `[h, w]`, 0 background, else an object's id.
      boxes: int `[n, 4]`, x, y, width, height of the objects; a box of no width is not drawn.
      ids: of the n objects; None: 1 to n.
      alpha: how much of the tint covers the object, 0 to 1.

    Returns:
      uint8 `[h, w, 3]`.

    Raises:
      InputError: if frame and labels differ in size.
    """
    if frame.shape[:2] != labels.shape:
        raise InputError(
            f"frame is {frame.shape[1]}x{frame.shape[0]}, labels {labels.shape[1]}x"
            f"{labels.shape[0]} (width x height): expected one size"
        )
    image = frame.copy()
    x, y, width, height = cv2.boundingRect(labels)  # all else stays as it is
    inside = slice(y, y + height), slice(x, x + width)
    labels = np.ascontiguousarray(labels[inside])
    counts = np.bincount(labels.ravel(), minlength=256)
    objects = (np.flatnonzero(counts[1:]) + 1).tolist()
    painted = image[inside].copy()
    for label in objects:
        painted[labels == label] = object_colour(label)
    if objects:
        image[inside] = cv2.addWeighted(painted, alpha, image[inside], 1 - alpha, 0)
    for label in objects:
        _outline(image, labels == label, object_colour(label), at=(x, y))
    boxes = np.zeros((0, 4), np.int32) if boxes is None else boxes
    for label, box in zip(ids or range(1, len(boxes) + 1), boxes, strict=True):
        _draw_box(image, box, object_colour(label))
    return image


def strip(
    frames: Sequence[np.ndarray],
    *,
    columns: int | None = None,
    height: int = 180,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Frames side by side, as a filmstrip or in rows.

    Args:
      frames: uint8 `[h, w, 3]` each, all of one size, at least one.
      columns: pictures in a row; None puts all into one.
      height: of each picture, in pixels; the width follows.
      captions: a short text for each frame, drawn in its lower left corner; without accents, and
        with a question mark for what is not Latin, as the font at hand has ASCII alone.

    Returns:
      uint8 `[h', w', 3]`, the pictures on white.
    """
    width = round(height * frames[0].shape[1] / frames[0].shape[0])
    tiles = [_resize(frame, height, width) for frame in frames]
    if captions is not None:
        tiles = [
            _caption(tile, text, max(12, height // 11))
            for tile, text in zip(tiles, captions, strict=True)
        ]
    columns = columns or len(tiles)
    return _grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def triplet_sheet(
    images: np.ndarray,
    masks: np.ndarray,
    boxes: np.ndarray,
    predictions: Mapping[str, np.ndarray] | None = None,
    *,
    cell: int = 192,
) -> np.ndarray:
    """Training triplets, a row each: memory 1, memory 2, the query, and what was predicted for it.

    Memory frames show their box, which is all that the memory knows of the object; the query shows
    its mask. A prediction shows its probability as tint, its border at one half, and in white the
    border of the truth: the box for a prediction named `box`, the mask for others. A line above
    says so.

    Args:
      images: uint8 `[b, 3, h, w, 3]`: first memory frame, second memory frame, query.
      masks: `[b, 3, h, w]`, the object where not 0.
      boxes: int `[b, 3, 4]`: x, y, width, height; no width where the object is absent.
      predictions: title -> foreground probability `[b, h, w]` in [0, 1], in the order of columns.
      cell: the height of a picture on the sheet, in pixels.

    Returns:
      uint8 `[h', w', 3]`.
    """
    predictions = predictions or {}
    h, w = images.shape[2:4]
    width = round(cell * w / h)
    titles = ["memory 1", "memory 2", "query", *predictions]
    rows = [[_title(title, width) for title in titles]]
    nothing = np.zeros((cell, width), np.float32)
    for i in range(len(images)):
        cells = [_resize(image, cell, width) for image in images[i]]
        truth = _resize((masks[i, 2] != 0).astype(np.float32), cell, width)
        scaled = np.round(boxes[i] * np.array([width / w, cell / h] * 2)).astype(np.int32)
        row = [_show(cells[k], nothing, None, scaled[k]) for k in (0, 1)]
        row.append(_show(cells[2], truth, None, None))
        for title, probability in predictions.items():
            predicted = _resize(np.asarray(probability[i], np.float32), cell, width)
            of_box = title == "box"
            row.append(
                _show(cells[2], predicted, None if of_box else truth, scaled[2] if of_box else None)
            )
        rows.append(row)
    sheet = _grid(rows)
    if predictions:
        legend = "query: the true mask; then in red what is predicted, in white the truth"
        sheet = np.concatenate([_title(legend, sheet.shape[1]), sheet])
    return sheet


def _show(image, probability, truth, box) -> np.ndarray:
    """One cell: the probability as tint and border; a true mask and a box, if given, in white."""
    colour = object_colour(1)
    image = _tint(image, colour, 0.55 * probability)
    _outline(image, probability > 0.5, colour)
    if truth is not None:
        _outline(image, truth > 0.5, np.array(_WHITE, np.uint8), thickness=1)
    if box is not None:
        _draw_box(image, box, np.array(_WHITE, np.uint8))
    return image


def _tint(image: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A copy with the colour `[3]` over it by the weight `[h, w]` in [0, 1]."""
    tint = (colour.astype(np.float32) - image) * weight[..., None]
    return np.round(image + tint).astype(np.uint8)


def _line_width(image: np.ndarray) -> int:
    return max(1, round(min(image.shape[:2]) / 260))


def _outline(
    image: np.ndarray,
    mask: np.ndarray,
    colour: np.ndarray,
    thickness: int = 0,
    at: tuple[int, int] = (0, 0),
) -> None:
    """Draws the border of a mask that lies at (x, y), paler than the colour of its tint."""
    pale = colour + (255 - colour.astype(np.float32)) * 0.35
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = thickness or _line_width(image)
    cv2.drawContours(image, found[0], -1, pale.tolist(), width, cv2.LINE_AA, offset=at)


def _draw_box(image: np.ndarray, box: np.ndarray, colour: np.ndarray) -> None:
    x, y, width, height = (int(v) for v in box)
    if width < 1 or height < 1:
        return
    corners = (x, y), (x + width - 1, y + height - 1)  # the box's own last pixels
    cv2.rectangle(image, *corners, colour.tolist(), _line_width(image))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    shrinks = height < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def _grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures in rows on white; pictures of one row have one height, of all rows one width."""
    columns = max(len(row) for row in rows)
    height = sum(row[0].shape[0] + _GAP for row in rows) - _GAP
    width = columns * (rows[0][0].shape[1] + _GAP) - _GAP
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    y = 0
    for row in rows:
        for k, tile in enumerate(row):
            x = k * (tile.shape[1] + _GAP)
            sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        y += row[0].shape[0] + _GAP
    return sheet


def _title(text: str, width: int) -> np.ndarray:
    """A column's heading, centred on paper."""
    size = 15
    image = Image.new("RGB", (width, size + 10), _PAPER)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((width / 2, size / 2 + 5), text, _INK, font, anchor="mm")
    return np.asarray(image)


def plain_text(text: str) -> str:
    """Without accents, and with a question mark for what is not Latin: the font's letters."""
    letters = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in letters if not unicodedata.combining(c))
    return text.encode("ascii", "replace").decode()


def _caption(image: np.ndarray, text: str, size: int) -> np.ndarray:
    """The text on a dark rounded plate in the lower left corner."""
    text = plain_text(text)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    font = ImageFont.load_default(size)
    left, bottom = size * 0.6, image.shape[0] - size * 0.6
    width = draw.textlength(text, font)
    plate = (left, bottom - size * 1.5, left + width + size, bottom)
    draw.rounded_rectangle(plate, size * 0.35, fill=(20, 20, 24, 170))
    draw.text((left + size / 2, bottom - size * 0.75), text, _WHITE, font, anchor="lm")
    return np.asarray(picture)
