"""Materials of procedural videos: seamless tiles of pattern and noise, coloured by a matrix.

A tile is made once a process and repeats without a seam, so that a camera may travel over it
without end. Its three channels are no colours yet: the pattern itself, fine grain, and broad light
and dark. A `Material` mixes them to RGB, which is how a few tiles give endless materials.
"""

import dataclasses
import functools

import cv2
import numpy as np

SIDE = 512  # of a tile, in pixels
VARIANTS = 3  # tiles of each family
SPREAD = 44  # standard deviation of a tile's channels, in grey levels


@dataclasses.dataclass(frozen=True)
class Material:
    """A coloured texture.

    Attributes:
      family: of the pattern, a key of `FAMILIES`.
      variant: which of the family's tiles, below VARIANTS.
      mix: float64 `[3, 4]`: a tile's channels and 1, to RGB in 0..255.
      place: float64 `[2, 3]`: a point (x, y, 1) of what wears the material, to pixels of the tile.
    """

    family: str
    variant: int
    mix: np.ndarray
    place: np.ndarray

    @property
    def colour(self) -> np.ndarray:
        """The mean RGB colour: float64 `[3]`."""
        return self.mix @ (128.0, 128.0, 128.0, 1.0)

    def alike(self, rng: np.random.Generator) -> "Material":
        """Another piece of the same stuff: cut from elsewhere, its colours a shade different."""
        mix, place = self.mix.copy(), self.place.copy()
        mix[:, 3] += rng.uniform(-6, 6, 3)
        place[:, 2] = _middle(rng)
        return dataclasses.replace(self, mix=mix, place=place)

    def sample(self, to_wearer: np.ndarray, width: int, height: int) -> np.ndarray:
        """A picture of the material.

        Args:
          to_wearer: float64 `[3, 3]`: pixel (x, y, 1) of the picture to a point of the wearer.
          width: of the picture, in pixels.
          height: of the picture, in pixels.

        Returns:
          uint8 `[height, width, 3]`, RGB.
        """
        to_tile = self.place @ to_wearer
        middle = to_tile @ (width / 2, height / 2, 1)
        to_tile[:, 2] -= SIDE * np.floor(middle / SIDE)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        pixels = cv2.warpAffine(
            tile(self.family, self.variant),
            to_tile,
            (width, height),
            flags=flags,
            borderMode=cv2.BORDER_WRAP,
        )
        return cv2.transform(pixels, self.mix)


def draw_material(rng: np.random.Generator, detail: float) -> Material:
    """A material of any family in two colours, with grain and broad light and dark.

    Args:
      rng: where everything random comes from.
      detail: pixels of the tile that one unit of the wearer's coordinates covers, roughly.
    """
    family = str(rng.choice(sorted(FAMILIES)))
    variant = int(rng.integers(VARIANTS))
    grey, chroma = rng.uniform(40, 215), rng.normal(0, rng.uniform(8, 55), 3)
    contrast = rng.choice([-1, 1]) * rng.uniform(25, 110)
    second = rng.normal(0, 25, 3) + contrast  # the pattern's other colour, less the first
    middle = np.clip(grey + chroma, 15, 240)
    grain = rng.uniform(0.1, 0.5) * np.ones(3)
    broad = rng.uniform(0.0, 0.4) * rng.uniform(0.5, 1, 3)
    linear = np.stack([second / (4 * SPREAD), grain, broad], axis=1)
    offset = middle - 128 * linear.sum(axis=1)
    angle, zoom = rng.uniform(0, 2 * np.pi), detail * rng.uniform(0.7, 1.4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = np.concatenate([zoom * turn, _middle(rng)[:, None]], axis=1)
    return Material(family, variant, np.concatenate([linear, offset[:, None]], axis=1), place)


def _middle(rng: np.random.Generator) -> np.ndarray:
    """A pixel of the tile, so far from its border that what is small seldom gets there.

    A picture that crosses the border takes twice the time.
    """
    return SIDE * rng.uniform(0.3, 0.7, 2)


@functools.cache
def tile(family: str, variant: int) -> np.ndarray:
    """A seamless tile: uint8 `[SIDE, SIDE, 3]`, of mean 128: pattern, fine grain, broad light."""
    rng = np.random.default_rng([sorted(FAMILIES).index(family), variant])
    channels = (FAMILIES[family](rng), noise(rng, 1.6, highest=SIDE / 6), noise(rng, 3.2))
    pixels = np.stack([128 + SPREAD * channel for channel in channels], axis=-1)
    pixels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    pixels.flags.writeable = False  # every video shares it
    return pixels


def noise(rng: np.random.Generator, slope: float, highest: float = SIDE) -> np.ndarray:
    """Multi-octave noise without a seam, of mean 0 and standard deviation 1.

    Args:
      rng: where it comes from.
      slope: its amplitude falls as frequency^-slope; the greater, the smoother.
      highest: frequency, in waves a tile; there are none above.

    Returns:
      float64 `[SIDE, SIDE]`.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    frequency = np.hypot(np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1))
    gain = np.where(frequency <= highest, np.maximum(frequency, 1.0) ** -slope, 0.0)
    gain[0, 0] = 0
    field = np.fft.irfft2(spectrum * gain, s=(SIDE, SIDE))
    return field / field.std()


def _clouds(rng: np.random.Generator) -> np.ndarray:
    return noise(rng, rng.uniform(1.2, 1.8), highest=SIDE / 6)


def _gradients(rng: np.random.Generator) -> np.ndarray:
    return noise(rng, 4.0)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    return _steep(np.sin(_phase(rng, int(rng.integers(8, 20))) + 1.2 * noise(rng, 3.0)), 3)


def _checks(rng: np.random.Generator) -> np.ndarray:
    waves, bend = rng.integers(6, 14), 0.5 * noise(rng, 3.0)
    u, v = np.mgrid[:SIDE, :SIDE] * (2 * np.pi * waves / SIDE)
    return _steep(np.sin(u + bend), 6) * _steep(np.sin(v - bend), 6)


def _spots(rng: np.random.Generator) -> np.ndarray:
    field = noise(rng, 0.3, highest=rng.uniform(12, 24))
    return _steep(field - 0.7, 5) + 0.5


def _cells(rng: np.random.Generator) -> np.ndarray:
    """Stones: each pixel has the tone of the nearest of some points, and darkens to its border."""
    count = int(rng.integers(70, 200))
    dots = np.full((SIDE, SIDE), 255, np.uint8)
    dots[tuple(rng.integers(0, SIDE, (2, count)))] = 0
    margin = SIDE // 4  # a dot is nearer than this, so the seam does not show
    around = np.pad(dots, margin, mode="wrap")
    distance, owner = cv2.distanceTransformWithLabels(
        around, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Padding repeats dots under new numbers: a tone belongs to the dot's place in the tile.
    y, x = np.nonzero(around == 0)
    tones = np.zeros(owner.max() + 1)
    place = (y - margin) % SIDE * SIDE + (x - margin) % SIDE
    _, alias = np.unique(place, return_inverse=True)
    tones[owner[y, x]] = rng.standard_normal(alias.max() + 1)[alias]
    field = (tones[owner] - distance / distance.mean())[margin:-margin, margin:-margin]
    return (field - field.mean()) / field.std()


def _phase(rng: np.random.Generator, waves: int) -> np.ndarray:
    """A plane wave of about so many periods a tile, whole ones along both sides."""
    angle = rng.uniform(0, np.pi)
    across, down = round(waves * np.cos(angle)), round(waves * np.sin(angle))
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / SIDE)
    return across * x + down * y


def _steep(field: np.ndarray, gain: float) -> np.ndarray:
    """Two tones with a soft edge at zero."""
    return np.tanh(gain * field)


FAMILIES = {
    "cells": _cells,
    "checks": _checks,
    "clouds": _clouds,
    "gradients": _gradients,
    "spots": _spots,
    "stripes": _stripes,
}
"""Patterns: each makes float64 `[SIDE, SIDE]` of about mean 0 and deviation 1, without a seam."""
