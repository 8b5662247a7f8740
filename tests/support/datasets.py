"""Miniature datasets of raw files in every layout."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from qmra_jax.masks import write_labels

SIZE = (40, 32)  # width, height


def names(count, step=1):
    return [f"{k * step:05d}" for k in range(count)]


def save(path, pixels, palette=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(path, **options)
    return path


def square(value=255, left=10, size=SIZE):
    mask = np.zeros(size[::-1], np.uint8)
    mask[8:20, left : left + 12] = value
    return mask


def labels(*objects):
    """A map with a 12x8 square for each (label, left edge)."""
    made = np.zeros(SIZE[::-1], np.uint8)
    for label, left in objects:
        made[8:20, left : left + 8] = label
    return made


def label_map(ids, size=(24, 32)):
    """Stripes of the given labels, one below the other."""
    made = np.zeros(size, np.uint8)
    for k, label in enumerate(ids):
        made[2 + 4 * k : 5 + 4 * k, 3 : 20 - k] = label
    return made


def picture(seed=0, size=SIZE):
    """A smooth random image."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return cv2.resize(small, size)


def add_pair(folder, stem, mask=None, suffix=".jpg", size=SIZE):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    save(folder / "images" / f"{stem}{suffix}", image)
    save(folder / "masks" / f"{stem}.png", square(size=size) if mask is None else mask)


def add_frames(folder, frames, size, suffix):
    """Random JPEGs, or PNGs of which the k-th has brightness 10 k."""
    for k, name in enumerate(frames):
        flat = np.full((*size, 3), 10 * k % 256, np.uint8)
        save(folder / f"{name}{suffix}", flat if suffix == ".png" else picture(k, size[::-1]))


def add_video(root, name, masks, split=None, year="2016", frames=None, level="480p", suffix=".png"):
    """A video in the DAVIS layout, added to the split's list.

    Args:
      masks: label maps of the frames 00000, 00001, ...; or by the frame's name.
      split: None for no list.
      frames: names of the frames, if there are more than masks.
      suffix: of the frames, see `add_frames`.
    """
    if not isinstance(masks, dict):
        masks = dict(zip(names(len(masks)), masks, strict=True))
    size = next(iter(masks.values())).shape
    add_frames(root / "JPEGImages" / level / name, frames or masks, size, suffix)
    for stamp, mask in masks.items():
        write_labels(root / "Annotations" / level / name / f"{stamp}.png", mask)
    if split:
        add_list(root, f"{year}/{split}", [name], mode="a")
    return root


def add_list(root, name, sequences, mode="w"):
    path = root / "ImageSets" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        file.writelines(f"{sequence}\n" for sequence in sequences)


STAMPS = tuple(names(5, 5))


def add_youtube_video(split, name, objects, masks, frames=STAMPS, suffix=".jpg", categories=None):
    """A video of YouTube-VOS: objects as id -> listed frames, masks as frame -> label map."""
    size = next(iter(masks.values()), label_map([])).shape
    add_frames(split / "JPEGImages" / name, frames, size, suffix)
    for stamp, mask in masks.items():
        write_labels(split / "Annotations" / name / f"{stamp}.png", mask)
    if objects:
        known = read_meta(split) if (split / "meta.json").exists() else {}
        write_meta(split, known | {name: meta_entry(objects, categories or {})})


def meta_entry(objects, categories):
    """A video of meta.json, from id -> listed frames and id -> category."""
    entries = {
        str(key): {"category": categories.get(key, "cat"), "frames": list(listed)}
        for key, listed in objects.items()
    }
    return {"objects": entries}


def youtube_vos(root: Path, inside: str = "valid") -> Path:
    """Two training videos, one of whose objects appears later and one leaves; one of valid.

    Args:
      root: of the new dataset.
      inside: the folder between `valid_all_frames` and `JPEGImages`, which depends on the edition.
    """
    stamps = names(4, 5)
    for name, maps, objects, categories in (
        ("0a1b", ([1], [1], [1, 2], [1, 2]), {2: stamps[2:], 1: stamps}, ("penguin", "person")),
        ("0c2d", ([1], [1], [], []), {1: stamps[:2]}, ("snowboard",)),
    ):
        masks = dict(zip(stamps, map(label_map, maps), strict=True))
        categories = dict(enumerate(categories, 1))
        add_youtube_video(root / "train", name, objects, masks, stamps, categories=categories)
    objects, first = (
        {1: stamps, 2: stamps[2:]},
        {"00000": label_map([1]), "00010": label_map([0, 2])},
    )
    categories = {1: "lizard", 2: "hand"}
    add_youtube_video(root / "valid", "fe98", objects, first, stamps, categories=categories)
    add_youtube_video(root / "valid_all_frames" / inside, "fe98", {}, {}, names(16))
    return root


def write_meta(split: Path, videos: dict) -> None:
    (split / "meta.json").write_text(json.dumps({"videos": videos}))


def read_meta(split: Path) -> dict:
    return json.loads((split / "meta.json").read_text())["videos"]
