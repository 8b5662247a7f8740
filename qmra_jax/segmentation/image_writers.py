"""Writers of images and videos: masks, overlays and cut-outs."""

import abc
import contextlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from qmra_jax.drawing import overlay
from qmra_jax.files import make_folder, written_whole
from qmra_jax.masks import write_labels
from qmra_jax.segmentation.result_writer import FrameObjects, ResultWriter
from qmra_jax.video.reader import Frame, VideoReader
from qmra_jax.video.writer import H264, VP9_ALPHA, Encoding, VideoWriter, check_encoder

_MARGIN = 8  # pixels around an object that keep their colour in a transparent video


class _Images(ResultWriter):
    """A folder of PNGs, 00000.png and so on, each complete when it appears."""

    def open(self, stack: contextlib.ExitStack) -> None:
        make_folder(self.path)

    @classmethod
    def remove(cls, folder: Path) -> None:
        for path in (folder / cls.name).glob("*.png"):
            if path.stem.isdecimal():
                path.unlink()
        with contextlib.suppress(OSError):  # it holds something else, or does not exist
            (folder / cls.name).rmdir()

    def file(self, frame: Frame) -> Path:
        """Path of the frame's PNG."""
        return self.path / f"{frame.number:05d}.png"


class Masks(_Images):
    """Palette PNGs: 0 background, else the object's id."""

    name = "masks"

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        write_labels(self.file(frame), objects.labels)


class CutoutImages(_Images):
    """RGBA PNGs: the frame's colours and alpha 255 in objects, zeros elsewhere."""

    name = "cutout"

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        assert frame.image is not None
        image = cv2.cvtColor(cut_out(frame.image, objects.labels), cv2.COLOR_RGBA2BGRA)
        data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        with written_whole(self.file(frame)) as part:
            part.write_bytes(data.tobytes())


class _Video(ResultWriter):
    """A video with the frame times of the segmented one."""

    encoding: Encoding

    def __init__(self, folder: Path, video: VideoReader):
        super().__init__(folder, video)
        check_encoder(self.encoding)  # before the network runs

    def open(self, stack: contextlib.ExitStack) -> None:
        writer = VideoWriter(
            self.path,
            rate=Fraction(self.video.fps).limit_denominator(100_000),
            time_base=self.video.time_base,
            pixel_aspect=self.video.pixel_aspect,
            encoding=self.encoding,
        )
        self._writer = stack.enter_context(writer)

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        assert frame.image is not None
        image = self.draw(frame.image, objects)
        self._writer.write(image, frame.time, frame.duration)

    @abc.abstractmethod
    def draw(self, image: np.ndarray, objects: FrameObjects) -> np.ndarray:
        """The image to encode, from the frame's uint8 `[h, w, 3]`."""


class Overlay(_Video):
    """H.264: the video with masks and boxes over it."""

    name, encoding = "overlay.mp4", H264

    def draw(self, image: np.ndarray, objects: FrameObjects) -> np.ndarray:
        return overlay(image, objects.labels, objects.boxes, ids=objects.ids)


class CutoutVideo(_Video):
    """VP9 with an alpha channel."""

    name, encoding = "cutout.webm", VP9_ALPHA

    def draw(self, image: np.ndarray, objects: FrameObjects) -> np.ndarray:
        return cut_out(image, objects.labels, _MARGIN)


def cut_out(image: np.ndarray, labels: np.ndarray, margin: int = 0) -> np.ndarray:
    """The objects on a transparent background.

    Args:
      image: uint8 `[h, w, 3]`.
      labels: uint8 `[h, w]`, 0 background.
      margin: pixels around the objects that keep their colour, though transparent, so that chroma
        subsampling does not darken the edges.

    Returns:
      RGBA uint8 `[h, w, 4]`, alpha 255 in objects and 0 elsewhere.
    """
    inside = (labels != 0).astype(np.uint8)
    kept = cv2.dilate(inside, np.ones((2 * margin + 1,) * 2, np.uint8)) if margin else inside
    return np.dstack([image * kept[..., None], inside * np.uint8(255)])
