"""The output of a segmented video, with one writer per kind of file.

DIR/masks/00000.png ...   palette PNGs, one per frame: 0 background, else the object's id
DIR/overlay.mp4           the video with the masks drawn over it, with its original frame times
DIR/boxes.csv, mot.txt, coco.json          see `qmra_jax.segmentation.table_writers`
DIR/cutout/00000.png ...  RGBA images of the objects on a transparent background
DIR/cutout.webm           the same as a transparent VP9 video

A new kind is a `ResultWriter` with an entry in `WRITERS`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.segmentation.image_writers import CutoutImages, CutoutVideo, Masks, Overlay
from qmra_jax.segmentation.result_writer import ResultWriter
from qmra_jax.segmentation.table_writers import Boxes, Coco, Mot
from qmra_jax.video.reader import VideoReader

WRITERS: dict[str, type[ResultWriter]] = {
    "masks": Masks,
    "overlay": Overlay,
    "boxes": Boxes,
    "mot": Mot,
    "coco": Coco,
    "cutout-png": CutoutImages,
    "cutout-webm": CutoutVideo,
}
DEFAULT = ("masks", "overlay", "boxes")


def make_writers(kinds: Sequence[str], folder: Path, video: VideoReader) -> list[ResultWriter]:
    """The writers of these kinds; nothing is written yet.

    Raises:
      InputError: if `kinds` is empty or contains one that is unknown or that this machine cannot
        write.
    """
    unknown = [kind for kind in kinds if kind not in WRITERS]
    if unknown or not kinds:
        what = ", ".join(unknown) or "no output"
        raise InputError(f"{what}: expected at least one of {', '.join(WRITERS)}")
    return [WRITERS[kind](folder, video) for kind in kinds]


@dataclasses.dataclass(frozen=True)
class Output:
    """The output folder of one segmented video."""

    folder: Path

    def path(self, kind: str) -> Path:
        """Path of the file or folder of this kind."""
        return self.folder / WRITERS[kind].name

    @property
    def masks(self) -> Path:
        """Folder of the label maps."""
        return self.path("masks")

    @property
    def overlay(self) -> Path:
        """Path of the video with the masks drawn over it."""
        return self.path("overlay")

    def mask(self, index: int) -> Path:
        """Path of the label map of frame `index`."""
        return self.masks / f"{index:05d}.png"


@dataclasses.dataclass(frozen=True)
class SegmentedVideo:
    """Summary of a segmented video."""

    output: Output
    paths: tuple[Path, ...]  # the files and folders written
    frames: int
    boxes: Mapping[int, np.ndarray]  # frame -> int32 [n, 4], x, y, width, height; 0 if not visible
    visible: Mapping[int, int]  # id -> number of frames whose mask has the object
    wall_seconds: float  # in all, including decoding, compiling and writing
    network_fps: float | None  # of `FrameResult.seconds`; None if every frame compiled something
    skipped: tuple[int, ...] = ()  # frames that could not be decoded and have the previous mask
    missing: int = 0  # frames that a truncated file lacks at its end

    def speed(self) -> str:
        """A message about the time taken."""
        line = f"{self.frames} frames in {self.wall_seconds:.0f} s, including compiling and disk"
        if self.network_fps is not None:
            line += f"; network only: {self.network_fps:.2f} frames/s"
        return line

    def visibility(self) -> str:
        """A message about how often each object is visible."""
        counts = (f"object {id} in {n}" for id, n in sorted(self.visible.items()))
        return f"visible in {_frames(self.frames)}: {', '.join(counts)}"

    def damage(self) -> str | None:
        """A warning about frames that could not be decoded; None if all could."""
        lines = []
        if count := len(self.skipped):
            verb = "carries" if count == 1 else "carry"
            numbers = ", ".join(map(str, self.skipped[:20])) + ", ..." * (count > 20)
            lines.append(
                f"{_frames(count)} could not be decoded and {verb} the last mask: {numbers}"
            )
        if self.missing:
            lines.append(f"{_frames(self.missing)} missing at the end: the file was cut off")
        return "; ".join(lines) or None


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
