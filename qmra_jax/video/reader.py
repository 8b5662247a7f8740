"""Frames out of a video, a folder of images, or the images that a glob names.

Everything here is uint8 `[h, w, 3]` RGB, as it is displayed: a phone's rotation is applied.
"""

import functools
import glob
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.images import read_image
from qmra_jax.video.container import VideoFile
from qmra_jax.video.image_folder import common_size, find_images, gaps, size_text

FOLDER_FPS = 24.0  # DAVIS's rate; a folder of images has none of its own


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
      number: from 0.
      time: seconds since the first frame, as the video says: its rate may vary.
      duration: seconds for which it is shown.
      image: uint8 `[h, w, 3]` RGB; None where it cannot be decoded.
      problem: a line that tells why not, naming file and frame; None for a sound frame.
    """

    number: int
    time: Fraction
    duration: Fraction
    image: np.ndarray | None
    problem: str | None = None


class VideoReader:
    """The frames of a video file (mp4, webm, gif, ...), of a folder of images or of a glob.

    Iterating yields uint8 `[h, w, 3]` RGB, and may be done any number of times, several at once.
    A folder's images (jpg, png), or all that a glob such as `frames/*.jpg` names, come in natural
    order: 2.jpg before 10.jpg. A variable frame rate keeps every frame; `fps` is then the average
    and `Frame.time` the truth.

    Attributes:
      path: of the file or folder, or the glob.
      fps: frames a second; `FOLDER_FPS` for images.
      size: (height, width) in pixels, every frame's.
      time_base: seconds of which every `Frame.time` is a whole multiple, or close to one.
      pixel_aspect: a pixel's width over its height when displayed; boxes count pixels all the same.

    Raises:
      InputError: here, if the path is missing, cannot be opened, holds no frames, or holds images
        that differ in size or share a name; while iterating, if a frame cannot be decoded or
        differs in size.
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
                " 'frames/*.jpg'; check the path"
            )

    @functools.cached_property
    def count(self) -> int:
        """How many frames there are: cheaply, without decoding (see `VideoFile.count`)."""
        return self._file.count() if self._file else len(self._images)

    @property
    def missing(self) -> int:
        """How many frames a video file lacks that was cut off (see `VideoFile.missing`)."""
        return self._file.missing if self._file else 0

    @functools.cached_property
    def gaps(self) -> str | None:
        """A line about numbers that a folder's images leave out; None where they leave out none."""
        return gaps(self._images)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that are read."""
        return self._images or (self.path,)

    def name(self, number: int) -> str:
        """What to call a frame: its image's file name, or `00000.jpg` and on for a video."""
        return self._images[number].name if self._images else f"{number:05d}.jpg"

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames():
            yield _sound(frame)

    def backwards(self, start: int) -> Iterator[np.ndarray]:
        """Frames `start` - 1 to 0, uint8 `[h, w, 3]`; memory stays bounded in a video too.

        Raises:
          InputError: as iterating.
        """
        for frame in self.frames_backwards(start):
            yield _sound(frame)

    def frames(self) -> Iterator[Frame]:
        """Every frame, also the damaged ones; these have no image and tell their problem.

        Raises:
          InputError: if a frame differs in size, or the file cannot be read on at all.
        """
        if self._file is None:
            yield from (self._read_image(number) for number in range(len(self._images)))
        else:
            for number, decoded in enumerate(self._file.decode()):
                yield self._convert(number, decoded)

    def frames_backwards(self, start: int) -> Iterator[Frame]:
        """Frames `start` - 1 to 0, as `frames` gives them.

        Raises:
          InputError: as `frames`.
        """
        if self._file is None:
            yield from (self._read_image(number) for number in reversed(range(start)))
        else:
            for number, decoded in self._file.backwards(start):
                yield self._convert(number, decoded)

    def frame(self, index: int) -> np.ndarray:
        """Frame number `index`, counted from 0: uint8 `[h, w, 3]`.

        Raises:
          InputError: if there is no such frame, or it cannot be decoded.
        """
        if self._file is None and 0 <= index < len(self._images):
            return _sound(self._read_image(index))
        decoded = self._file.frame(index) if self._file else None
        if decoded is None:
            raise InputError(
                f"frame {index} of {self.path} does not exist: it has {self.count} frames, 0 to"
                f" {self.count - 1}"
            )
        return _sound(self._convert(index, decoded))

    def _convert(self, number: int, decoded) -> Frame:
        assert self._file is not None
        time = self._file.seconds(number, decoded.pts)
        duration = self._file.duration(decoded)
        if decoded.problem is not None:
            problem = (
                f"frame {number} of video {self.path} cannot be decoded ({decoded.problem}): the"
                " file is damaged or incomplete; get it again, or skip the frame (--skip-bad)"
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

    def _check_size(self, image: np.ndarray, where: str) -> None:
        if image.shape[:2] != self.size:
            raise InputError(
                f"{where} is {size_text(image.shape)}, the first frame {size_text(self.size)}:"
                " expected one size throughout; resize the frames or cut the video where the size"
                " changes"
            )


def _sound(frame: Frame) -> np.ndarray:
    if frame.image is None:
        raise InputError(frame.problem)
    return frame.image
