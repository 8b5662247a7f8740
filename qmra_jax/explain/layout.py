"""Titled panels of captioned pictures, one below the other on white paper."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qmra_jax.drawing import plain_text

WIDTH, MARGIN, GAP = 1600, 40, 20  # pixels: of the sheet, around it, between pictures
_INK, _PALE = (40, 40, 46), (110, 110, 118)
_HEAD, _TITLE, _NOTE, _CAPTION = 32, 22, 16, 16  # sizes of letters

# B_q and S_q^r: one letter, what stands below it, what stands above it.
_SYMBOL = re.compile(r"\b([A-Z])_([a-z])\b(?:\^([a-z]))?|\b([w])_([a-z])\b")


class Tile(NamedTuple):
    """A picture uint8 `[h, w, 3]` and the text under it."""

    image: np.ndarray
    caption: str


class Panel(NamedTuple):
    """A titled part of the sheet.

    Attributes:
      title: of the panel.
      note: under the title, paler.
      rows: of tiles; one that is longer than `columns` goes on below.
      columns: tiles side by side, which gives their width.
    """

    title: str
    note: str
    rows: list[list[Tile]]
    columns: int


def columns_width(columns: int) -> int:
    """The width in pixels of one of so many tiles side by side."""
    return (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns


def lay_out(title: str, note: str, panels: Sequence[Panel]) -> np.ndarray:
    """The sheet: uint8 `[h, WIDTH, 3]`."""
    parts = [_space(MARGIN), _heading(title, note, _HEAD)]
    for panel in panels:
        parts += [_space(MARGIN), _heading(panel.title, panel.note, _TITLE)]
        for row in panel.rows:
            for start in range(0, len(row), panel.columns):
                parts += [_space(14), _row(row[start : start + panel.columns], panel.columns)]
    return np.concatenate([*parts, _space(MARGIN)])


def write(
    image: np.ndarray,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int] = _INK,
) -> None:
    """Writes into the image, the letters' foot at (x, y); B_q and S_q^r are set as symbols."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    _set(draw, at, text, size, colour)
    image[:] = np.asarray(picture)


def text_width(text: str, size: int) -> float:
    """In pixels, as `write` sets it."""
    return _set(None, (0, 0), text, size, _INK)


def _set(draw: ImageDraw.ImageDraw | None, at, text: str, size: int, colour) -> float:
    """Sets a text, and gives the x where it ends; without `draw` nothing is drawn."""
    font, small = ImageFont.load_default(size), ImageFont.load_default(round(0.7 * size))
    x, y = at

    def put(x: float, y: float, letters: str, font) -> float:
        if draw is not None:
            draw.text((x, y), letters, colour, font, anchor="ls")
        return x + font.getlength(letters)

    end = 0
    for match in _SYMBOL.finditer(text):
        x = put(x, y, text[end : match.start()], font)
        letter, below, above = match[1] or match[4], match[2] or match[5], match[3] or ""
        x = put(x, y, letter, font)
        under = put(x, y + 0.22 * size, below, small)
        x = max(under, put(x, y - 0.42 * size, above, small)) + 0.08 * size
        end = match.end()
    return put(x, y, text[end:], font)


def _heading(title: str, note: str, size: int) -> np.ndarray:
    lines = _wrapped(plain_text(note), _NOTE) if note else []
    image = _space(round(1.2 * size) + len(lines) * round(1.5 * _NOTE))
    write(image, (MARGIN, 0.95 * size), plain_text(title), size)
    for k, line in enumerate(lines):
        foot = 1.2 * size + (k + 1) * 1.5 * _NOTE - 0.3 * _NOTE
        write(image, (MARGIN, foot), line, _NOTE, _PALE)
    return image


def _wrapped(text: str, size: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) > WIDTH - 2 * MARGIN and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _row(tiles: Sequence[Tile], columns: int) -> np.ndarray:
    width = columns_width(columns)
    height = round(width * tiles[0].image.shape[0] / tiles[0].image.shape[1])
    row = _space(height + round(1.6 * _CAPTION))
    for k, tile in enumerate(tiles):
        x = MARGIN + k * (width + GAP)
        method = cv2.INTER_AREA if width < tile.image.shape[1] else cv2.INTER_CUBIC
        row[:height, x : x + width] = cv2.resize(tile.image, (width, height), interpolation=method)
        write(row, (x, height + 1.2 * _CAPTION), plain_text(tile.caption), _CAPTION)
    return row


def _space(height: int) -> np.ndarray:
    return np.full((height, WIDTH, 3), 255, np.uint8)
