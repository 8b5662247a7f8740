"""Masks, overlays and cut-outs: writers of pictures and videos."""

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

_MARGIN = 8  # pixels of a transparent video's unseen colour around an object


class _Images(ResultWriter):
    """A folder of PNGs, 00000.png and on; each is in its place at once."""

    def open(self) -> None:
        make_folder(self.path)

    def close(self) -> None:
        pass

    def discard(self) -> None:
        pass

    def remove(self) -> None:
        for path in self.path.glob("*.png"):  # so that those of a longer video do not outlive it
            if path.stem.isdecimal():
                path.unlink()
        with contextlib.suppress(OSError):  # it holds something else, or is not there
            self.path.rmdir()

    def file(self, frame: Frame) -> Path:
        """Where the frame's picture belongs."""
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
    """A video with the times of the one that is segmented."""

    encoding: Encoding

    def __init__(self, folder: Path, video: VideoReader):
        super().__init__(folder, video)
        check_encoder(self.encoding)

    def open(self) -> None:
        self._empty = True
        self._writer = VideoWriter(
            self.path,
            rate=Fraction(self.video.fps).limit_denominator(100_000),
            time_base=self.video.time_base,
            pixel_aspect=self.video.pixel_aspect,
            encoding=self.encoding,
        )

    def write(self, frame: Frame, objects: FrameObjects) -> None:
        assert frame.image is not None
        image = self.draw(frame.image, objects)
        self._writer.write(image, frame.time, frame.duration)
        self._empty = False

    @abc.abstractmethod
    def draw(self, image: np.ndarray, objects: FrameObjects) -> np.ndarray:
        """The picture to encode, from the frame's uint8 `[h, w, 3]`."""

    def close(self) -> None:
        if self._empty:
            self.discard()
        else:
            self._writer.close()

    def discard(self) -> None:
        self._writer.discard()


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
    """The objects without what is around them.

    Args:
      image: uint8 `[h, w, 3]`.
      labels: uint8 `[h, w]`, 0 background.
      margin: pixels around the objects that keep their colour, unseen: so that a video's coarser
        colour does not darken the edges.

    Returns:
      uint8 `[h, w, 4]`: RGB and alpha, 255 in objects and 0 elsewhere.
    """
    inside = (labels != 0).astype(np.uint8)
    kept = cv2.dilate(inside, np.ones((2 * margin + 1,) * 2, np.uint8)) if margin else inside
    return np.dstack([image * kept[..., None], inside * np.uint8(255)])
