"""Procedural videos with exact masks, rendered on demand: nothing to download or store.

    python -m data_pipeline.synthetic --output=DIR --split=val --count=5

writes the first videos of a split in the DAVIS layout, for `evaluate.py` and `qmra score`. A video
is a function of its split and number alone; its frames can be rendered in any order and thread.
"""

import argparse
import dataclasses
import functools
import shutil
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_pipeline.synthetic.render import draw_image, draw_labels
from data_pipeline.synthetic.scene import LENGTH, Scene, draw_scene
from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.files import make_folder
from qmra_jax.masks import label_counts, write_labels

SPLITS = {"train": 10_000, "val": 20, "tiny": 4}  # videos; tiny is small enough to overfit
DEFAULT_HEIGHT = 240  # of a frame, in pixels
MIN_HEIGHT = 32
MIN_SHARE = 1 / 200  # of the first and the last frame that every object covers


@dataclasses.dataclass(frozen=True)
class SyntheticVideo:
    """One video; see `data_pipeline.triplets.sources.Clip`.

    Attributes:
      name: such as "synthetic/train/00012".
      scene: its content.
      height: of a frame, in pixels.
    """

    name: str
    scene: Scene
    height: int
    length: int = LENGTH

    @property
    def _size(self) -> tuple[int, int]:
        return self.height, round(self.height * 16 / 9)

    def image(self, k: int) -> np.ndarray:
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), k])
        return draw_image(self.scene, k, *self._size, rng)

    def labels(self, k: int) -> np.ndarray:
        return draw_labels(self.scene, k, *self._size)


@dataclasses.dataclass(frozen=True)
class SyntheticVideos:
    """The videos of a split; see `data_pipeline.triplets.sources.Clips`.

    All objects of a video are visible in its first three frames and in its last.

    Attributes:
      split: "train", "val" or "tiny".
      height: of a frame, in pixels; frames are 16:9.

    Raises:
      InputError: if there is no such split, or the height is too small.
    """

    split: str = "train"
    height: int = DEFAULT_HEIGHT

    def __post_init__(self):
        if self.split not in SPLITS or self.height < MIN_HEIGHT:
            raise InputError(
                f"synthetic videos of split {self.split!r}, height {self.height}: expected one of"
                f" {', '.join(SPLITS)}, and at least {MIN_HEIGHT} pixels"
            )

    def __len__(self) -> int:
        return SPLITS[self.split]

    def clip(self, item: int) -> SyntheticVideo:
        name = f"synthetic/{self.split}/{item:05d}"
        return SyntheticVideo(name, _scene(self.split, item), self.height)


@functools.lru_cache(maxsize=64)
def _scene(split: str, item: int) -> Scene:
    """The first scene drawn for a video whose objects can be followed."""
    rng = np.random.default_rng([zlib.crc32(split.encode()), item])
    while not _can_be_followed(scene := draw_scene(rng)):
        pass
    return scene


def _can_be_followed(scene: Scene) -> bool:
    """Whether every object is visible where `SyntheticVideos` promises it."""

    def visible(time: int) -> set[int]:
        labels = draw_labels(scene, time, 54, 96)  # what is visible here is so at any size
        return set(np.flatnonzero(label_counts(labels) >= MIN_SHARE * labels.size).tolist()) - {0}

    return all(visible(time) == scene.labels for time in (0, 1, 2, LENGTH - 1))


def export(output: Path, split: str = "val", count: int = 5, height: int = DEFAULT_HEIGHT) -> None:
    """Writes the first videos of a split in the DAVIS layout, completely or not at all.

    The split is listed for 2016 (all objects as one) and for 2017 (each by itself).

    Args:
      output: root of the dataset: a new or empty folder.
      split: "train", "val" or "tiny".
      count: number of videos.
      height: of a frame, in pixels.

    Raises:
      InputError: if the folder is not empty, or the split has fewer videos.
    """
    videos = SyntheticVideos(split, height)
    if not 1 <= count <= len(videos):
        raise InputError(f"count {count}: expected 1 to {len(videos)}, the videos of {split}")
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
    """The command `python -m data_pipeline.synthetic`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="root of the dataset: a new or empty folder")
    add("--split", default="val", choices=SPLITS, help="default: val")
    add("--count", type=int, default=5, help="number of videos (default: 5)")
    add("--height", type=int, default=DEFAULT_HEIGHT, help="of a frame (default: %(default)s)")
    args = parser.parse_args()
    with exit_on_input_error():
        export(args.output, args.split, args.count, args.height)
        print(f"wrote {args.output}")
