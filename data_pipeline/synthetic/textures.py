"""Textures for procedural videos: two-coloured noise on tiles that repeat without a seam."""

import dataclasses
import functools

import cv2
import numpy as np

SIDE = 512  # of a tile, in pixels
TILES = 12


@dataclasses.dataclass(frozen=True)
class Texture:
    """A coloured tile and how it lies on a surface.

    Attributes:
      tile: number of the tile, below `TILES`.
      mix: float64 `[3, 2]`: a tile's value and 1, to RGB in 0..255.
      place: float64 `[2, 3]`: a point (x, y, 1) of the surface to pixels of the tile.
    """

    tile: int
    mix: np.ndarray
    place: np.ndarray

    @property
    def colour(self) -> np.ndarray:
        """The mean RGB colour: float64 `[3]`."""
        return self.mix @ (128.0, 1.0)

    def sample(self, to_surface: np.ndarray, width: int, height: int) -> np.ndarray:
        """An image of the texture: uint8 `[height, width, 3]`, RGB.

        Args:
          to_surface: float64 `[3, 3]`: pixel (x, y, 1) of the image to a point of the surface.
          width: of the image, in pixels.
          height: of the image, in pixels.
        """
        pixels = cv2.warpAffine(
            tile(self.tile),
            self.place @ to_surface,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        return cv2.transform(pixels, self.mix)


def draw_texture(rng: np.random.Generator, detail: float) -> Texture:
    """Draws a texture.

    Args:
      rng: source of all randomness.
      detail: pixels of the tile per unit of the surface, approximately.
    """
    colour = np.clip(rng.uniform(40, 215) + rng.normal(0, rng.uniform(8, 55), 3), 15, 240)
    contrast = rng.choice([-1, 1]) * rng.uniform(0.05, 0.3) + rng.normal(0, 0.08, 3)
    angle, zoom = rng.uniform(0, 2 * np.pi), detail * rng.uniform(0.7, 1.4)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    x, y = SIDE * rng.random(2)
    return Texture(
        int(rng.integers(TILES)),
        np.stack([contrast, colour - 128 * contrast], axis=1),
        np.array([[cos, -sin, x], [sin, cos, y]]),
    )


@functools.cache
def tile(number: int) -> np.ndarray:
    """A seamless tile of filtered noise, from clouds to sharp stripes: uint8 `[SIDE, SIDE]`."""
    rng = np.random.default_rng(number)
    x, y = np.arange(SIDE // 2 + 1), np.fft.fftfreq(SIDE, 1 / SIDE)[:, None]
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 2))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    frequency = np.hypot(stretch * along, across)  # in waves per tile
    gain = 1 / (1 + (frequency / rng.uniform(8, 24)) ** rng.uniform(2, 4))
    gain[0, 0] = 0
    field = np.fft.irfft2(gain * np.fft.rfft2(rng.standard_normal((SIDE, SIDE))))
    field = np.tanh(rng.uniform(0.6, 3) * field / field.std())
    return np.round(128 + 100 * field).astype(np.uint8)
