"""Pictures for people: masks over frames, strips of a video, sheets of training triplets.

All images are uint8 `[h, w, 3]` RGB. An object has the same colour in every picture.
"""

import unicodedata
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qmra_jax.errors import InputError
from qmra_jax.images import size_text
from qmra_jax.masks import PALETTE

_WHITE, _INK = (255, 255, 255), (60, 60, 67)
_GAP = 6  # pixels between pictures


def object_colour(label: int) -> np.ndarray:
    """The RGB colour of an object: uint8 `[3]`.

    Its hue is that of DAVIS's palette, brightened to show on dark frames too.
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
    """Draws objects on a copy of a frame: tint, outline and box in each object's colour.

    Args:
      frame: uint8 `[h, w, 3]`.
      labels: uint8 `[h, w]`: 0 background, else the object's id.
      boxes: int `[n, 4]`: x, y, width, height; empty boxes are not drawn.
      ids: the objects of the boxes; None is 1 to n.
      alpha: opacity of the tint, 0 to 1.

    Raises:
      InputError: if frame and labels differ in size.
    """
    if frame.shape[:2] != labels.shape:
        raise InputError(
            f"frame is {size_text(frame.shape)} and labels are {size_text(labels.shape)}:"
            " expected one size"
        )
    image = frame.copy()
    x, y, width, height = cv2.boundingRect(labels)  # the rest stays as it is
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
    """Sets frames side by side on white, in one or several rows.

    Args:
      frames: uint8 `[h, w, 3]` each, of one size, at least one.
      columns: pictures per row; None puts all in one.
      height: of each picture in pixels; the width follows.
      captions: text for the lower left corner of each frame; see `plain_text`.
    """
    width = round(height * frames[0].shape[1] / frames[0].shape[0])
    tiles = [_resize(frame, height, width) for frame in frames]
    if captions is not None:
        size = max(12, height // 11)
        tiles = [_caption(tile, text, size) for tile, text in zip(tiles, captions, strict=True)]
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
    """Draws training triplets, one per row: memory 1, memory 2, the query, its predictions.

    Memory frames show their box, the query its mask. A prediction is tinted by probability and
    outlined at one half, with the truth in white: the box for a prediction named `box`, else the
    mask.

    Args:
      images: uint8 `[b, 3, h, w, 3]`: two memory frames, then the query.
      masks: `[b, 3, h, w]`, non-zero on the object.
      boxes: int `[b, 3, 4]`: x, y, width, height; empty where the object is absent.
      predictions: column title -> foreground probability `[b, h, w]`.
      cell: height of a picture on the sheet, in pixels.
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
        row = [_show(cells[k], nothing, box=scaled[k]) for k in (0, 1)]
        row.append(_show(cells[2], truth))
        for title, probability in predictions.items():
            predicted = _resize(np.asarray(probability[i], np.float32), cell, width)
            target = {"box": scaled[2]} if title == "box" else {"truth": truth}
            row.append(_show(cells[2], predicted, **target))
        rows.append(row)
    sheet = _grid(rows)
    if predictions:
        legend = "query: true mask; predictions: red; truth: white"
        sheet = np.concatenate([_title(legend, sheet.shape[1]), sheet])
    return sheet


def plain_text(text: str) -> str:
    """Replaces accented letters by plain ones, and others that the font lacks by "?"."""
    letters = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in letters if not unicodedata.combining(c))
    return text.encode("ascii", "replace").decode()


def _show(
    image: np.ndarray,
    probability: np.ndarray,
    *,
    truth: np.ndarray | None = None,
    box: np.ndarray | None = None,
) -> np.ndarray:
    """Draws a probability as tint and outline; a true mask or a box in white."""
    colour, white = object_colour(1), np.array(_WHITE, np.uint8)
    tint = (colour.astype(np.float32) - image) * (0.55 * probability)[..., None]
    image = np.round(image + tint).astype(np.uint8)
    _outline(image, probability > 0.5, colour)
    if truth is not None:
        _outline(image, truth > 0.5, white, thickness=1)
    if box is not None:
        _draw_box(image, box, white)
    return image


def _line_width(image: np.ndarray) -> int:
    return max(1, round(min(image.shape[:2]) / 260))


def _outline(
    image: np.ndarray,
    mask: np.ndarray,
    colour: np.ndarray,
    thickness: int = 0,
    at: tuple[int, int] = (0, 0),
) -> None:
    """Outlines a mask whose origin is at (x, y), in a paler colour than its tint."""
    pale = colour + (255 - colour.astype(np.float32)) * 0.35
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = thickness or _line_width(image)
    cv2.drawContours(image, contours, -1, pale.tolist(), width, cv2.LINE_AA, offset=at)


def _draw_box(image: np.ndarray, box: np.ndarray, colour: np.ndarray) -> None:
    x, y, width, height = (int(v) for v in box)
    if width >= 1 and height >= 1:
        corners = (x, y), (x + width - 1, y + height - 1)  # the outermost pixels of the box
        cv2.rectangle(image, *corners, colour.tolist(), _line_width(image))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def _grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Joins rows of pictures on white; all have one width, those of a row one height."""
    columns = max(map(len, rows))
    lines = []
    for row in rows:
        tiles = [*row, *[np.full_like(row[0], 255)] * (columns - len(row))]
        margins = (0, _GAP), (0, _GAP), (0, 0)
        lines.append(np.hstack([np.pad(tile, margins, constant_values=255) for tile in tiles]))
    return np.ascontiguousarray(np.vstack(lines)[:-_GAP, :-_GAP])


def _title(text: str, width: int) -> np.ndarray:
    """A centred column heading on white."""
    size = 15
    image = Image.new("RGB", (width, size + 10), _WHITE)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((width / 2, size / 2 + 5), text, _INK, font, anchor="mm")
    return np.asarray(image)


def _caption(image: np.ndarray, text: str, size: int) -> np.ndarray:
    """Writes text on a dark rounded plate in the lower left corner."""
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
