"""Videos in the official layout of YouTube-VOS."""

import json

import numpy as np

from tests.support.datasets import save

NAMES = ("00000", "00005", "00010", "00015", "00020")


def labels(*objects):
    """A map with a 12x8 square for each (label, left edge)."""
    made = np.zeros((32, 40), np.uint8)
    for label, left in objects:
        made[8:20, left : left + 8] = label
    return made


def add_youtube_video(folder, name, objects, masks, frames=NAMES):
    """A video of the official layout: objects id -> frames listed, masks frame -> label map."""
    for frame in frames:
        save(folder / "JPEGImages" / name / f"{frame}.jpg", np.full((32, 40, 3), 90, np.uint8))
    for frame, label in masks.items():
        save(folder / "Annotations" / name / f"{frame}.png", label)
    path = folder / "meta.json"
    meta = json.loads(path.read_text()) if path.exists() else {"videos": {}}
    meta["videos"][name] = {
        "objects": {str(i): {"category": "cat", "frames": list(f)} for i, f in objects.items()}
    }
    path.write_text(json.dumps(meta))
