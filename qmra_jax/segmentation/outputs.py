"""What a segmented video leaves behind, a writer for each kind.

DIR/masks/00000.png ...   palette PNGs, one a frame: 0 background, else the object's id
DIR/overlay.mp4           the video with the masks over it, each frame for as long as it was shown
DIR/boxes.csv, mot.txt, coco.json          see `qmra_jax.segmentation.table_writers`
DIR/cutout/00000.png ...  RGBA: the objects, and nothing around them
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
    """The writers of these kinds; nothing is touched yet.

    Raises:
      InputError: if there is no kind, an unknown one, or one that this machine cannot write.
    """
    unknown = [kind for kind in kinds if kind not in WRITERS]
    if unknown or not kinds:
        given = ", ".join(unknown) or "no output"
        raise InputError(f"{given}: expected at least one of {', '.join(WRITERS)}")
    return [WRITERS[kind](folder, video) for kind in kinds]


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the files of one segmented video lie."""

    folder: Path

    def path(self, kind: str) -> Path:
        """Of the file or folder that the writer of this kind makes."""
        return self.folder / WRITERS[kind].name

    @property
    def masks(self) -> Path:
        """The folder of label maps."""
        return self.path("masks")

    @property
    def overlay(self) -> Path:
        """The video with the masks over it."""
        return self.path("overlay")

    def mask(self, index: int) -> Path:
        """The label map of frame `index`."""
        return self.masks / f"{index:05d}.png"


@dataclasses.dataclass(frozen=True)
class SegmentedVideo:
    """What came of it.

    Attributes:
      output: where the files lie.
      paths: of the files and folders that were written.
      frames: how many frames there are.
      boxes: frame -> int32 `[n, 4]`, x, y, width, height of each object, zeros where not seen.
      wall_seconds: from the first frame's decoding to the last file's end, compiling included.
      network_fps: frames a second of the network's own time, over the frames that compiled nothing
        (`FrameResult.seconds`); None where each did.
      skipped: numbers of the frames that could not be decoded and carry the last mask.
      missing: frames beyond the end of a file that was cut off.
    """

    output: Output
    paths: tuple[Path, ...]
    frames: int
    boxes: Mapping[int, np.ndarray]
    wall_seconds: float
    network_fps: float | None
    skipped: tuple[int, ...] = ()
    missing: int = 0

    def speed(self) -> str:
        """A line about frames and seconds, and what they count."""
        line = f"{self.frames} frames in {self.wall_seconds:.0f} s, compiling and disk included"
        if self.network_fps is not None:
            line += f"; the network alone {self.network_fps:.2f} frames/s"
        return line

    def damage(self) -> str | None:
        """A line about frames that could not be decoded; None if all could."""
        lines = []
        if self.skipped:
            count = len(self.skipped)
            verbs = "could not be decoded and " + ("carries" if count == 1 else "carry")
            shown = ", ".join(map(str, self.skipped[:20])) + ", ..." * (count > 20)
            lines.append(f"{_frames(count)} {verbs} the last mask: {shown}")
        if self.missing:
            verb = "is" if self.missing == 1 else "are"
            lines.append(
                f"{_frames(self.missing)} at the end {verb} not in the file: it was cut off"
            )
        return "; ".join(lines) or None


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
