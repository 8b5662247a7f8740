"""Synthetic files that are as large and as slow to decode as real datasets.

The cost of decoding depends on a JPEG's size, so pictures are noise with about the spectrum of
natural images (amplitude ~ frequency ** -1.2), saved at a quality that makes them as large as
ECSSD's files (400x300, about 60 kB) and DAVIS's at 480p (854x480, about 110 kB).
"""

from pathlib import Path

import numpy as np
from PIL import Image

STILL, FRAME = (300, 400), (480, 854)  # height, width
CONTRAST = 40.0  # standard deviation of the pictures, of 255
FRAMES = 60  # per video; DAVIS's mean is about 70


def make_stills(folder: Path, count: int) -> None:
    """Writes `count` pairs, images/00000.jpg and masks/00000.png (0/255)."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(count):
        image, mask = _picture(rng, STILL), _blob(rng, STILL)
        _save(folder / "images" / f"{k:05d}.jpg", _shown(image, mask), quality=93)
        _save(folder / "masks" / f"{k:05d}.png", mask)


def make_videos(folder: Path, count: int, frames: int = FRAMES) -> None:
    """Writes `count` videos of one moving target in DAVIS 2016's layout, as split "train"."""
    rng = np.random.default_rng(1)
    names = [f"video{k:02d}" for k in range(count)]
    for name in names:
        image, mask = _picture(rng, FRAME), _blob(rng, FRAME)
        for kind in ("JPEGImages", "Annotations"):
            (folder / kind / "480p" / name).mkdir(parents=True)
        for k in range(frames):
            moved = np.roll(mask, 6 * k, axis=1)
            frame = _shown(np.roll(image, -4 * k, axis=1), moved)
            _save(folder / "JPEGImages/480p" / name / f"{k:05d}.jpg", frame, quality=82)
            _save(folder / "Annotations/480p" / name / f"{k:05d}.png", moved)
    lists = folder / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{name}\n" for name in names))


def kilobytes(folder: Path) -> float:
    """Mean size of the JPEG files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
    return sum(sizes) / len(sizes) / 1000


def _noise(rng: np.random.Generator, size: tuple[int, int], falls: float) -> np.ndarray:
    """Noise of amplitude frequency ** -falls: mean 0, standard deviation 1."""
    height, width = size
    frequency = np.hypot(
        *np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    )
    frequency[0, 0] = np.inf
    phase = np.exp(2j * np.pi * rng.random(frequency.shape))
    noise = np.fft.irfft2(phase / frequency**falls, size)
    return (noise - noise.mean()) / noise.std()


def _picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Float `[h, w, 3]`: mostly brightness, some colour."""
    shade = _noise(rng, size, 1.2)
    colours = [shade + 0.3 * _noise(rng, size, 1.5) for _ in range(3)]
    return 128 + CONTRAST * np.stack(colours, axis=-1)


def _blob(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A central shape with an uneven outline: uint8 `[h, w]`, 0 and 255."""
    y, x = np.indices(size)
    distance = np.hypot(y - size[0] / 2, x - size[1] / 2) / size[0]
    return np.uint8(255) * (distance < 0.25 + 0.04 * _noise(rng, size, 2.0))


def _shown(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    shaded = np.where(mask[..., None] > 0, 0.7 * image + 60, image)
    return shaded.clip(0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray, **options) -> None:
    Image.fromarray(pixels).save(path, **options)
