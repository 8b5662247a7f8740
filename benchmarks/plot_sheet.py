"""White paper to draw a plot on: text, lines, bars and marks, with smooth edges."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GREY, PALE = (30, 30, 34), (120, 120, 126), (222, 222, 226)

_SCALE = 3  # drawn so much larger, then shrunk, which smooths edges

Colour = str | tuple[int, int, int]
Point = tuple[float, float]


class Sheet:
    """White paper; all measures in pixels of the finished picture."""

    def __init__(self, width: int, height: int):
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
        self._draw = ImageDraw.Draw(self._image)

    def text(self, x, y, text, ink, *, size=13, anchor="mm") -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), text, ink, font, anchor=anchor)

    def width_of(self, text: str, size: int = 13) -> float:
        return self._draw.textlength(text, ImageFont.load_default(size * _SCALE)) / _SCALE

    def line(self, points: Sequence[Point], ink: Colour, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, ink, round(width * _SCALE), joint="curve")

    def bar(self, start, end, y, height, ink) -> None:
        left, right = sorted((start, end))
        box = (left, y - height / 2, max(right, left + 1), y + height / 2)
        self._draw.rectangle([v * _SCALE for v in box], fill=ink)

    def diamond(self, x, y, radius, ink) -> None:
        corners = ((0, -radius), (radius, 0), (0, radius), (-radius, 0))
        points = [((x + dx) * _SCALE, (y + dy) * _SCALE) for dx, dy in corners]
        self._draw.polygon(points, fill=ink, outline="white", width=_SCALE)

    def pixels(self) -> np.ndarray:
        width, height = self._image.size
        size = (width // _SCALE, height // _SCALE)
        return np.asarray(self._image.resize(size, Image.Resampling.LANCZOS))
