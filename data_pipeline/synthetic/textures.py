"""Textures for procedural videos: tiles of pattern and noise, coloured by a matrix.

A tile is made once a process and repeats without a seam, so that a camera may travel over it
without end. Its channels are no colours yet: the pattern, fine grain, and broad light and dark. A
`Texture` mixes them to RGB, which is how a few tiles give endless textures.
"""

import dataclasses
import functools

import cv2
import numpy as np

SIDE = 512  # of a tile, in pixels
VARIANTS = 3  # tiles of each pattern
SPREAD = 44  # standard deviation of a tile's channels, in grey levels


@dataclasses.dataclass(frozen=True)
class Texture:
    """A coloured tile on what wears it.

    Attributes:
      pattern: a key of `PATTERNS`.
      variant: which of the pattern's tiles, below VARIANTS.
      mix: float64 `[3, 4]`: a tile's channels and 1, to RGB in 0..255.
      place: float64 `[2, 3]`: a point (x, y, 1) of the wearer to pixels of the tile.
    """

    pattern: str
    variant: int
    mix: np.ndarray
    place: np.ndarray

    @property
    def colour(self) -> np.ndarray:
        """The mean RGB colour: float64 `[3]`."""
        return self.mix @ (128.0, 128.0, 128.0, 1.0)

    def alike(self, rng: np.random.Generator) -> "Texture":
        """Another piece of the same stuff: cut from elsewhere, its colours a shade different."""
        mix, place = self.mix.copy(), self.place.copy()
        mix[:, 3] += rng.uniform(-6, 6, 3)
        place[:, 2] = SIDE * rng.uniform(0.3, 0.7, 2)
        return dataclasses.replace(self, mix=mix, place=place)

    def sample(self, to_wearer: np.ndarray, width: int, height: int) -> np.ndarray:
        """A picture of the texture, uint8 `[height, width, 3]`, RGB.

        Args:
          to_wearer: float64 `[3, 3]`: pixel (x, y, 1) of the picture to a point of the wearer.
          width: of the picture, in pixels.
          height: of the picture, in pixels.
        """
        to_tile = self.place @ to_wearer
        to_tile[:, 2] -= SIDE * np.floor(to_tile @ (width / 2, height / 2, 1) / SIDE)
        pixels = cv2.warpAffine(
            tile(self.pattern, self.variant),
            to_tile,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        return cv2.transform(pixels, self.mix)


def draw_texture(rng: np.random.Generator, detail: float) -> Texture:
    """A texture of any pattern in two colours, with grain and broad light and dark.

    Args:
      rng: where everything random comes from.
      detail: pixels of the tile that one unit of the wearer's coordinates covers, roughly.
    """
    colour = rng.uniform(40, 215) + rng.normal(0, rng.uniform(8, 55), 3)
    second = rng.choice([-1, 1]) * rng.uniform(25, 110) + rng.normal(0, 25, 3)  # less the first
    grain, broad = rng.uniform(0.1, 0.5, 1), rng.uniform(0, 0.4, 1)
    linear = np.stack([second / (4 * SPREAD), np.repeat(grain, 3), np.repeat(broad, 3)], axis=1)
    offset = np.clip(colour, 15, 240) - 128 * linear.sum(axis=1)
    angle, zoom = rng.uniform(0, 2 * np.pi), detail * rng.uniform(0.7, 1.4)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    # Far from the tile's border, as a picture that crosses it takes twice the time.
    x, y = SIDE * rng.uniform(0.3, 0.7, 2)
    return Texture(
        str(rng.choice(sorted(PATTERNS))),
        int(rng.integers(VARIANTS)),
        np.concatenate([linear, offset[:, None]], axis=1),
        np.array([[cos, -sin, x], [sin, cos, y]]),
    )


@functools.cache
def tile(pattern: str, variant: int) -> np.ndarray:
    """A seamless tile: uint8 `[SIDE, SIDE, 3]`, of mean 128: pattern, fine grain, broad light."""
    rng = np.random.default_rng([sorted(PATTERNS).index(pattern), variant])
    channels = (PATTERNS[pattern](rng), noise(rng, 1.6, highest=SIDE / 6), noise(rng, 3.2))
    pixels = np.stack([128 + SPREAD * channel for channel in channels], axis=-1)
    pixels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    pixels.flags.writeable = False  # every video shares it
    return pixels


def noise(rng: np.random.Generator, slope: float, highest: float = SIDE) -> np.ndarray:
    """Noise of many octaves without a seam, of mean 0 and deviation 1: float64 `[SIDE, SIDE]`.

    Args:
      rng: where it comes from.
      slope: its amplitude falls as frequency^-slope; the greater, the smoother.
      highest: frequency, in waves a tile; there are none above.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    frequency = np.hypot(np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1))
    gain = np.where(frequency <= highest, np.maximum(frequency, 1.0) ** -slope, 0.0)
    gain[0, 0] = 0
    field = np.fft.irfft2(spectrum * gain, s=(SIDE, SIDE))
    return field / field.std()


def _clouds(rng: np.random.Generator) -> np.ndarray:
    return noise(rng, rng.uniform(1.2, 2.5), highest=SIDE / 6)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    across, down = rng.integers(-14, 15), rng.integers(6, 15)  # waves a tile
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / SIDE)
    return np.tanh(3 * np.sin(across * x + down * y + 1.2 * noise(rng, 3.0)))


def _checks(rng: np.random.Generator) -> np.ndarray:
    bend = 0.5 * noise(rng, 3.0)
    u, v = np.mgrid[:SIDE, :SIDE] * (2 * np.pi * rng.integers(6, 14) / SIDE)
    return np.tanh(6 * np.sin(u + bend)) * np.tanh(6 * np.sin(v - bend))


def _spots(rng: np.random.Generator) -> np.ndarray:
    return np.tanh(5 * (noise(rng, 0.3, highest=rng.uniform(12, 24)) - 0.7)) + 0.5


PATTERNS = {"checks": _checks, "clouds": _clouds, "spots": _spots, "stripes": _stripes}
"""Each makes float64 `[SIDE, SIDE]` of about mean 0 and deviation 1, without a seam."""
