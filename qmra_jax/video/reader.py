"""Reads frames from a video file, a folder of images, or a glob of images.

All images are uint8 `[h, w, 3]` RGB, as displayed: the rotation of a phone's video is applied.
"""

import functools
import glob
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.images import read_image, size_text
from qmra_jax.video.container import VideoFile
from qmra_jax.video.image_folder import common_size, find_images, gaps

FOLDER_FPS = 24.0  # DAVIS's rate; a folder of images states none


class Frame(NamedTuple):
    """A frame of a video."""

    number: int  # index in the video
    time: Fraction  # seconds since the first frame; frame rates may vary
    duration: Fraction  # in seconds
    image: np.ndarray | None  # uint8 [h, w, 3] RGB; None if it cannot be decoded
    problem: str | None = None  # why not, as an error message that names file and frame


class VideoReader:
    """The frames of a video file (mp4, webm, gif, ...), of a folder of images, or of a glob.

    Iterating yields uint8 `[h, w, 3]` RGB; it can be repeated, and several iterators may run at
    once. Images (jpg, png) of a folder, or those that match a glob such as `frames/*.jpg`, come in
    natural order: 2.jpg before 10.jpg. Of a video with a variable frame rate every frame is kept;
    `fps` is then the average, and `Frame.time` is exact.

    Attributes:
      path: the file, folder or glob.
      fps: frames per second; `FOLDER_FPS` for images.
      size: (height, width) of every frame, in pixels.
      time_base: seconds, of which every `Frame.time` is a multiple, at least approximately.
      pixel_aspect: width over height of a displayed pixel; does not affect `size`.

    Raises:
      InputError: on construction, if the path does not exist, cannot be opened, holds no frames, or
        holds images that differ in size or share a name; while iterating, if a frame cannot be
        decoded or differs in size.
    """

    path: Path
    fps: float
    size: tuple[int, int]
    time_base: Fraction
    pixel_aspect: Fraction = Fraction(1)

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._images: tuple[Path, ...] = ()
        self._file: VideoFile | None = None
        if self.path.is_dir() or (not self.path.exists() and glob.has_magic(str(path))):
            self._images = find_images(self.path)
            self.fps, self.time_base = FOLDER_FPS, 1 / Fraction(FOLDER_FPS)
            self.size = common_size(self._images)
        elif self.path.exists():
            file = self._file = VideoFile(self.path)
            self.fps, self.size = float(file.rate), file.size
            self.time_base, self.pixel_aspect = file.time_base, file.pixel_aspect
        else:
            raise InputError(
                f"{self.path} not found: expected a video, a folder of images or a glob such as"
                " 'frames/*.jpg'"
            )

    @property
    def count(self) -> int:
        """Number of frames, found without decoding (see `VideoFile.count`)."""
        return self._file.count if self._file else len(self._images)

    @property
    def missing(self) -> int:
        """Number of frames that a truncated file lacks (see `VideoFile.missing`)."""
        return self._file.missing if self._file else 0

    @functools.cached_property
    def gaps(self) -> str | None:
        """A warning about gaps in the numbering of the images; None if there are none."""
        return gaps(self._images)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that are read."""
        return self._images or (self.path,)

    def name(self, number: int) -> str:
        """File name of a frame's image; of a video file, its own."""
        return self._images[number].name if self._images else self.path.name

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(_image, self.frames())

    def backwards(self, start: int) -> Iterator[np.ndarray]:
        """Images of frames `start` - 1 down to 0, in bounded memory.

        Raises:
          InputError: as iterating.
        """
        return map(_image, self.frames_backwards(start))

    def frames(self) -> Iterator[Frame]:
        """All frames, including those that cannot be decoded.

        Raises:
          InputError: if a frame differs in size, or the rest of the file cannot be read.
        """
        if self._file is None:
            return map(self._read_image, range(len(self._images)))
        return (self._convert(*numbered) for numbered in enumerate(self._file.decode()))

    def frames_backwards(self, start: int) -> Iterator[Frame]:
        """Frames `start` - 1 down to 0, as `frames` yields them.

        Raises:
          InputError: as `frames`.
        """
        if self._file is None:
            return map(self._read_image, reversed(range(start)))
        return (self._convert(*numbered) for numbered in self._file.backwards(start))

    def frame(self, index: int) -> np.ndarray:
        """The image of one frame, uint8 `[h, w, 3]`.

        Raises:
          InputError: if there is no such frame, or it cannot be decoded.
        """
        if self._file is None and 0 <= index < len(self._images):
            return _image(self._read_image(index))
        decoded = self._file.frame(index) if self._file else None
        if decoded is None:
            raise InputError(
                f"frame {index} of {self.path} does not exist: it has {self.count} frames, 0 to"
                f" {self.count - 1}"
            )
        return _image(self._convert(index, decoded))

    def _convert(self, number: int, decoded) -> Frame:
        assert self._file is not None
        time = self._file.seconds(number, decoded.pts)
        duration = self._file.duration(decoded)
        if decoded.problem is not None:
            problem = (
                f"frame {number} of video {self.path} cannot be decoded ({decoded.problem}): the"
                " file is damaged or incomplete; replace it, or skip the frame (--skip-bad)"
            )
            return Frame(number, time, duration, None, problem)
        image = self._file.image(decoded.picture)
        self._check_size(image, f"frame {number} of {self.path}")
        return Frame(number, time, duration, image)

    def _read_image(self, number: int) -> Frame:
        path, duration = self._images[number], self.time_base
        try:
            image = read_image(path, turned=True)
        except InputError as error:
            problem = f"frame {number}, {error}, or skip the frame (--skip-bad)"
            return Frame(number, number * duration, duration, None, problem)
        self._check_size(image, str(path))
        return Frame(number, number * duration, duration, image)

    def _check_size(self, image: np.ndarray, name: str) -> None:
        if image.shape[:2] != self.size:
            raise InputError(
                f"{name} is {size_text(image.shape)}, the first frame {size_text(self.size)}:"
                " expected one size; resize the frames or cut the video where the size changes"
            )


def _image(frame: Frame) -> np.ndarray:
    if frame.image is None:
        raise InputError(frame.problem)
    return frame.image
