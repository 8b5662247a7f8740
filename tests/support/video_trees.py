"""Miniature datasets of videos in their official layouts."""

import json
from pathlib import Path

import cv2
import numpy as np

from qmra_jax.masks import write_labels

SIZE = (24, 32)


def names(count: int, step: int = 1) -> list[str]:
    return [f"{k * step:05d}" for k in range(count)]


def label_map(ids, size=SIZE) -> np.ndarray:
    """Stripes of the given labels, one below the other, over background."""
    labels = np.zeros(size, np.uint8)
    for k, label in enumerate(ids):
        labels[2 + 4 * k : 5 + 4 * k, 3 : 20 - k] = label
    return labels


def add_frames(folder: Path, frames: list[str], size=SIZE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(folder.name))
    for name in frames:
        image = cv2.resize(rng.integers(0, 256, (3, 4, 3), np.uint8), size[::-1])
        cv2.imwrite(str(folder / f"{name}.jpg"), image)


def add_masks(folder: Path, masks: dict[str, np.ndarray]) -> None:
    """Palette PNGs, as DAVIS and YouTube-VOS have them."""
    for name, labels in masks.items():
        write_labels(folder / f"{name}.png", labels)


def add_video(root: Path, name: str, masks: dict, frames=None, level: str = "480p") -> None:
    """A sequence in the DAVIS layout; a mask of every frame unless there are more frames."""
    add_frames(root / "JPEGImages" / level / name, frames or list(masks))
    add_masks(root / "Annotations" / level / name, masks)


def add_list(root: Path, name: str, sequences: list[str]) -> None:
    path = root / "ImageSets" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{sequence}\n" for sequence in sequences))


def entry(objects: dict) -> dict:
    """A video of meta.json, from {id: (category, frames)}."""
    return {
        "objects": {
            str(key): {"category": category, "frames": frames}
            for key, (category, frames) in objects.items()
        }
    }


def youtube_vos(root: Path, inside: str = "valid") -> Path:
    """Two training videos, one of whose objects appears later and one leaves; one of valid.

    Args:
      root: of the new dataset.
      inside: the folder between `valid_all_frames` and `JPEGImages`, which depends on the edition.
    """
    train, valid = root / "train", root / "valid"
    stamps = names(4, 5)
    later = [label_map([1]), label_map([1]), label_map([1, 2]), label_map([1, 2])]
    leaves = [label_map([1]), label_map([1]), label_map([]), label_map([])]
    for name, maps in (("0a1b", later), ("0c2d", leaves)):
        add_frames(train / "JPEGImages" / name, stamps)
        add_masks(train / "Annotations" / name, dict(zip(stamps, maps, strict=True)))
    write_meta(
        train,
        {
            "0a1b": entry({2: ("person", stamps[2:]), 1: ("penguin", stamps)}),
            "0c2d": entry({1: ("snowboard", stamps[:2])}),
        },
    )
    add_frames(valid / "JPEGImages" / "fe98", stamps)
    add_frames(root / "valid_all_frames" / inside / "JPEGImages" / "fe98", names(16))
    first = {"00000": label_map([1]), "00010": label_map([0, 2])}
    add_masks(valid / "Annotations" / "fe98", first)
    write_meta(valid, {"fe98": entry({1: ("lizard", stamps), 2: ("hand", stamps[2:])})})
    return root


def write_meta(split: Path, videos: dict) -> None:
    (split / "meta.json").write_text(json.dumps({"videos": videos}))


def read_meta(split: Path) -> dict:
    return json.loads((split / "meta.json").read_text())["videos"]
