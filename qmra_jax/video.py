"""Frames out of a video or a folder of images, and frames into a video.

Everything here is uint8 `[h, w, 3]` RGB, as it is displayed: a phone's rotation is applied.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
FOLDER_FPS = 24.0  # DAVIS's rate; a folder of images has none of its own
UNKNOWN_FPS = 25.0  # for a file that names no rate, such as a lone image

_EXIF_ORIENTATION = 0x0112  # 5 to 8 lay the image on its side


class VideoReader:
    """The frames of a video file (mp4, webm, gif, ...) or of a folder of images, in order.

    Iterating yields uint8 `[h, w, 3]` RGB, and may be done any number of times, several at once.
    A folder's images (jpg, png) come in natural order: 2.jpg before 10.jpg. A variable frame rate
    keeps every frame; `fps` is then the average.

    Attributes:
      path: of the file or folder.
      fps: frames a second; `FOLDER_FPS` for a folder.
      count: how many frames, as far as is known without decoding: exact for a folder, the file's
        own word or an estimate for a video, None where there is neither.
      size: (height, width) in pixels, every frame's.

    Raises:
      InputError: here, if the path is missing, cannot be opened, holds no frames, or is a folder
        whose images differ in size or share a name; while iterating, if a frame cannot be decoded
        or differs in size.
    """

    path: Path
    fps: float
    count: int | None
    size: tuple[int, int]

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.exists():
            raise InputError(
                f"{self.path} not found: expected a video or a folder of images; check the path"
            )
        self._images: tuple[Path, ...] | None = None
        if self.path.is_dir():
            self._images = _find_images(self.path)
            self.fps, self.count = FOLDER_FPS, len(self._images)
            self.size = _common_size(self._images)
        else:
            self.fps, self.count = _read_rate(self.path)
            first = next(_decode(self.path), None)
            if first is None:
                raise InputError(
                    f"video {self.path} has no frames: expected at least one; check that the file"
                    " is complete"
                )
            self.size = (first.shape[0], first.shape[1])

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._images is None:
            frames = _decode(self.path)
        else:
            frames = (_read_image(path) for path in self._images)
        for index, frame in enumerate(frames):
            if frame.shape[:2] != self.size:
                where = self._images[index] if self._images else f"frame {index} of {self.path}"
                raise InputError(
                    f"{where} is {_size_text(frame.shape)}, the first frame"
                    f" {_size_text(self.size)}: expected one size throughout; resize the frames or"
                    " cut the video where the size changes"
                )
            yield frame

    def frame(self, index: int) -> np.ndarray:
        """Frame number `index`, counted from 0: uint8 `[h, w, 3]`.

        Raises:
          InputError: if there is no such frame.
        """
        count = 0
        if index >= 0 and self._images is not None and index < len(self._images):
            return _read_image(self._images[index])
        for count, frame in enumerate(self, start=1):
            if count - 1 == index:
                return frame
        raise InputError(
            f"frame {index} of {self.path} does not exist: it has {count} frames, 0 to {count - 1}"
        )


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Writes an H.264 mp4 that plays everywhere: yuv420p, BT.709.

    The file appears under its name only once it is complete, and then replaces one already there.
    yuv420p needs even sizes: an odd height or width grows by one, its last row or column repeated.

    Args:
      path: of the .mp4 to write; its folder is made if need be.
      frames: uint8 `[h, w, 3]` RGB, one at a time, all of one size.
      fps: frames a second, above 0.

    Returns:
      The path.

    Raises:
      InputError: if there are no frames, they are not as above, or fps is not above 0.
    """
    path = Path(path)
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps {fps!r}: expected a number above 0")
    rate = Fraction(fps).limit_denominator(100_000)  # 30000/1001 and its kin stay exact
    options = {"movflags": "faststart"}  # a browser plays it before it has all of it
    with (
        written_whole(path) as part,
        av.open(str(part), "w", format="mp4", options=options) as container,
    ):
        _encode(container, frames, rate, path)
    return path


def _encode(container, frames: Iterable[np.ndarray], rate: Fraction, path: Path) -> None:
    stream, size = None, (0, 0)
    for index, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InputError(
                f"frame {index} for {path} is {frame.dtype} {list(frame.shape)}: expected uint8"
                " [h, w, 3]"
            )
        if stream is None:
            size = frame.shape[:2]
            # The matrix is named in the stream, or players guess it from the size.
            tags = "colorprim=bt709:transfer=bt709:colormatrix=bt709"
            options = {"crf": "18", "preset": "veryfast", "x264-params": tags}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
            stream.pix_fmt = "yuv420p"
        if frame.shape[:2] != size:
            raise InputError(
                f"frame {index} for {path} is {_size_text(frame.shape)}, the first frame"
                f" {_size_text(size)}: expected one size throughout"
            )
        frame = np.pad(frame, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        container.mux(stream.encode(picture))
    if stream is None:
        raise InputError(f"no frames to write to {path}: expected at least one")
    container.mux(stream.encode(None))


def _open(path: Path):
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"video {path} cannot be opened ({error.strerror or error}): expected a video"
            " such as mp4, webm or gif, or a folder of images"
        ) from None
    if not container.streams.video:
        container.close()
        raise InputError(f"{path} holds no video stream: expected a video or a folder of images")
    return container


def _read_rate(path: Path) -> tuple[float, int | None]:
    """Frames a second, and how many, as the file tells."""
    with _open(path) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or stream.guessed_rate or UNKNOWN_FPS)
        if stream.frames:
            return fps, stream.frames
        if container.duration:  # in av.time_base; webm tells no count
            return fps, max(1, round(container.duration / av.time_base * fps))
        return fps, None


def _decode(path: Path) -> Iterator[np.ndarray]:
    index = 0
    with _open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        try:
            for frame in container.decode(video=0):
                image = frame.to_ndarray(format="rgb24")
                # The display matrix turns counterclockwise, as rot90 does.
                quarter_turns = round(frame.rotation / 90) % 4
                yield np.ascontiguousarray(np.rot90(image, quarter_turns))
                index += 1
        except av.FFmpegError as error:
            raise InputError(
                f"frame {index} of video {path} cannot be decoded ({error.strerror or error}):"
                " the file is damaged or incomplete; get it again, or cut it before that frame"
            ) from None


def _find_images(folder: Path) -> tuple[Path, ...]:
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not images:
        raise InputError(
            f"folder {folder} holds no images: expected {', '.join(IMAGE_SUFFIXES)} files, one a"
            " frame"
        )
    # 00000.jpg beside 00000.png: frames and their masks, which must not be taken for one video.
    name, times = Counter(path.stem for path in images).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"folder {folder} holds {times} images named {name}: expected one a frame; keep frames"
            " and masks in separate folders"
        )
    return tuple(sorted(images, key=_natural_key))


def _natural_key(path: Path) -> tuple:
    """Sorts digits as numbers: [name, 2, .jpg] before [name, 10, .jpg]."""
    parts = re.split(r"(\d+)", path.name)
    return ([int(part) if part.isdecimal() else part.lower() for part in parts], path.name)


def _common_size(images: tuple[Path, ...]) -> tuple[int, int]:
    """(height, width) of all of them, from their headers."""
    first = None
    for path in images:
        try:
            with Image.open(path) as image:
                size = (image.height, image.width)
                if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
                    size = (image.width, image.height)
        except OSError as error:
            raise InputError(
                f"image {path} cannot be opened ({error}): expected a jpg or png"
            ) from None
        first = first or size
        if size != first:
            raise InputError(
                f"image {path} is {_size_text(size)}, {images[0].name} is {_size_text(first)}:"
                " expected one size in the whole folder; resize the images or split the folder"
            )
    assert first is not None
    return first


def _read_image(path: Path) -> np.ndarray:
    # imdecode, as imread takes no file name outside ASCII on Windows; it applies EXIF's rotation.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"image {path} cannot be decoded: expected a whole jpg or png")
    return np.ascontiguousarray(image[..., ::-1])


def _size_text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} (width x height)"
