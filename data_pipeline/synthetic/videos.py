"""Procedural videos with exact masks, made on the spot: nothing to download, nothing on disk.

    python -m data_pipeline.synthetic --output=DIR --split=val --count=5

writes some in the layout of DAVIS, for `evaluate.py` and `qmra score`. A video is a function of its
split and number alone, and any of its frames can be drawn by itself, in any order, by any thread.
"""

import argparse
import dataclasses
import functools
import itertools
import shutil
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_pipeline.synthetic.render import USUAL_HEIGHT, draw_image, draw_labels
from data_pipeline.synthetic.scene import LENGTH, Scene, draw_scene
from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.files import make_folder
from qmra_jax.masks import label_counts, write_labels

SPLITS = {"train": 10_000, "val": 20, "tiny": 4}  # videos; tiny is to be learnt by heart
MIN_HEIGHT = 32
MIN_SHARE = 1 / 200  # of the frame that every object covers in the first frame
CROWDED_DRAWS = 8  # scenes drawn for a video before it makes do with a plain one


@dataclasses.dataclass(frozen=True)
class SyntheticVideo:
    """One video; frames are counted from 0.

    Attributes:
      name: "synthetic/train/00012".
      scene: what happens in it.
      height: of a frame, in pixels.
      width: of a frame, in pixels.
    """

    name: str
    scene: Scene
    height: int
    width: int

    @property
    def length(self) -> int:
        """How many frames there are."""
        return LENGTH

    def image(self, k: int) -> np.ndarray:
        """Frame k: uint8 `[h, w, 3]`, RGB; IndexError if there is no such frame."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), self._checked(k)])
        return draw_image(self.scene, k, self.height, self.width, rng)

    def labels(self, k: int) -> np.ndarray:
        """The mask of frame k: uint8 `[h, w]`, 0 background, 1..n what is visible of the objects.

        Raises:
          IndexError: if there is no such frame.
        """
        return draw_labels(self.scene, self._checked(k), self.height, self.width)

    def _checked(self, k: int) -> int:
        if not 0 <= k < LENGTH:
            raise IndexError(f"frame {k} of {self.name}: expected 0 to {LENGTH - 1}")
        return k


@dataclasses.dataclass(frozen=True)
class SyntheticVideos:
    """The videos of a split, each made when it is asked for.

    In every one, all objects show in the first frame, at least one of them in the two that follow
    too, and an object that leaves the frame is back in the last.

    Attributes:
      split: "train", "val" or "tiny", which is so small that a network learns it by heart.
      height: of a frame, in pixels; frames are 16:9.

    Raises:
      InputError: if there is no such split, or the height is too small.
    """

    split: str = "train"
    height: int = USUAL_HEIGHT

    def __post_init__(self):
        if self.split not in SPLITS or self.height < MIN_HEIGHT:
            raise InputError(
                f"synthetic videos of split {self.split!r}, height {self.height}: expected one of"
                f" {', '.join(SPLITS)}, and at least {MIN_HEIGHT} pixels"
            )

    def __len__(self) -> int:
        return SPLITS[self.split]

    def clip(self, item: int) -> SyntheticVideo:
        """Video `item`; none of its frames is drawn yet.

        Raises:
          IndexError: if there is no such video.
        """
        if not 0 <= item < len(self):
            raise IndexError(f"synthetic/{self.split} video {item}: expected 0 to {len(self) - 1}")
        return SyntheticVideo(
            f"synthetic/{self.split}/{item:05d}",
            _scene(self.split, item),
            self.height,
            round(self.height * 16 / 9),
        )


@functools.lru_cache(maxsize=64)
def _scene(split: str, item: int) -> Scene:
    """The first of a video's scenes whose objects can be followed."""
    rng = np.random.default_rng([zlib.crc32(split.encode()), item])
    scenes = (draw_scene(rng, plain=draw >= CROWDED_DRAWS) for draw in itertools.count())
    return next(scene for scene in scenes if _can_be_followed(scene))


def _can_be_followed(scene: Scene) -> bool:
    """Whether the objects show as `SyntheticVideos` promises."""

    def shown(time: int) -> set[int]:
        labels = draw_labels(scene, time, 54, 96)  # what shows in small frames shows in large ones
        return {i for i, n in enumerate(label_counts(labels)) if i and n >= MIN_SHARE * labels.size}

    first, last = shown(0), shown(LENGTH - 1)
    all_are_there = first == set(scene.labels) and set(scene.leavers) <= last
    return all_are_there and bool(first & shown(1) & shown(2))


def export(output: Path, split: str = "val", count: int = 5, height: int = USUAL_HEIGHT) -> None:
    """Writes the first videos of a split in the layout of DAVIS, whole or not at all.

    Lists are written for 2016 (all objects as one) and 2017 (each by itself); masks are the same.

    Args:
      output: the dataset's root; it must not exist, or be an empty folder.
      split: "train", "val" or "tiny".
      count: how many videos.
      height: of a frame, in pixels.

    Raises:
      InputError: if something is there already, or there are not so many videos.
    """
    videos = SyntheticVideos(split, height)
    if not 1 <= count <= len(videos):
        raise InputError(f"count {count}: expected 1 to {len(videos)}, all that {split} has")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"output {output} exists and is not an empty folder: give another output")
    make_folder(output.parent)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an export that was killed
    names = [f"{split}-{item:05d}" for item in range(count)]
    try:
        for item, name in enumerate(tqdm(names, unit="video", desc="draw")):
            clip = videos.clip(item)
            make_folder(part / "JPEGImages/480p" / name)
            for k in range(LENGTH):
                write_labels(part / f"Annotations/480p/{name}/{k:05d}.png", clip.labels(k))
                path = part / f"JPEGImages/480p/{name}/{k:05d}.jpg"
                Image.fromarray(clip.image(k)).save(path, quality=95)
        for year in ("2016", "2017"):
            make_folder(part / "ImageSets" / year)
            (part / f"ImageSets/{year}/{split}.txt").write_text("\n".join(names) + "\n")
        part.replace(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main() -> None:
    """Exports videos as the command line asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="the dataset's root: a new or empty folder")
    add("--split", default="val", choices=SPLITS, help="default: val")
    add("--count", type=int, default=5, help="videos, from the split's first on (default: 5)")
    add("--height", type=int, default=USUAL_HEIGHT, help="of a frame (default: %(default)s)")
    args = parser.parse_args()
    with exit_on_input_error():
        export(args.output, args.split, args.count, args.height)
        print(f"wrote {args.output}")
