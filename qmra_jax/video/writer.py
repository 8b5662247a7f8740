"""Frames into a video file, each with its own time; the file is whole or not there."""

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
      codec: by ffmpeg's name.
      container: of the file.
      source: the pixels that are given: rgb24 or rgba.
      pixels: the encoder's.
      options: of the encoder.
      muxer: options of the container.
      even: whether height and width must be even.
    """

    codec: str
    container: str
    source: str
    pixels: str
    options: dict[str, str]
    muxer: dict[str, str]
    even: bool


H264 = Encoding(  # plays everywhere
    codec="libx264",
    container="mp4",
    source="rgb24",
    pixels="yuv420p",
    # The matrix is named in the stream, or players guess it from the size.
    options={
        "crf": "18",
        "preset": "veryfast",
        "bf": "0",  # an mp4's length is of its last frame in decoding order: let it be the last
        "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709",
    },
    muxer={"movflags": "faststart"},  # a browser plays it before it has all of it
    even=True,
)
VP9_ALPHA = Encoding(  # transparent in browsers and editors
    codec="libvpx-vp9",
    container="webm",
    source="rgba",
    pixels="yuva420p",
    options={
        "crf": "24",
        "b": "0",
        "deadline": "realtime",
        "cpu-used": "6",
        "row-mt": "1",
        "auto-alt-ref": "0",  # libvpx has no alternate reference frames with transparency
    },
    muxer={},
    even=False,
)


class VideoWriter:
    """Writes a video frame by frame.

    The file appears under its name when `close` is called, and then replaces one already there.
    H.264's yuv420p needs even sizes: an odd height or width grows by one, its last row or column
    repeated.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: Fraction,
        time_base: Fraction,
        pixel_aspect: Fraction = Fraction(1),
        encoding: Encoding = H264,
    ):
        """Opens a hidden file beside `path`.

        Args:
          path: of the file; its folder is made if need be.
          rate: frames a second, on average.
          time_base: seconds of which the frames' times are multiples; others are rounded to one.
          pixel_aspect: a pixel's width over its height when displayed.
          encoding: how to write.

        Raises:
          InputError: if the folder cannot be written to, or there is no such encoder.
        """
        check_encoder(encoding)
        self._path, self._encoding = path, encoding
        self._rate, self._time_base, self._aspect = rate, time_base, pixel_aspect
        self._stack = contextlib.ExitStack()
        part = self._stack.enter_context(written_whole(path))
        self._container = self._stack.enter_context(
            av.open(str(part), "w", format=encoding.container, options=encoding.muxer)
        )
        self._stream: av.VideoStream | None = None
        self._size = (0, 0)
        self._count = 0
        self._last = -1  # the last frame's time
        self._durations: dict[int, int] = {}  # by the times of frames that are being encoded

    def write(self, image: np.ndarray, time: Fraction, duration: Fraction) -> None:
        """Adds a frame.

        Args:
          image: uint8 `[h, w, c]`, RGB or RGBA as the encoding wants it, all of one size.
          time: seconds since the first frame; one tick more than the last if it is not above.
          duration: seconds.

        Raises:
          InputError: if the image is of another size than the first.
          ValueError: if it is not uint8 of so many channels.
        """
        stream = self._stream = self._stream or self._add_stream(*image.shape[:2])
        if image.shape[:2] != self._size:
            raise InputError(
                f"frame {self._count} for {self._path} is {image.shape[1]}x{image.shape[0]}"
                f" (width x height), the first frame {self._size[1]}x{self._size[0]}: expected one"
                " size throughout"
            )
        if self._encoding.even and (self._size[0] % 2 or self._size[1] % 2):
            grown = ((0, self._size[0] % 2), (0, self._size[1] % 2), (0, 0))
            image = np.pad(image, grown, mode="edge")
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format=self._encoding.source
        )
        picture = picture.reformat(format=self._encoding.pixels, dst_colorspace="ITU709")
        picture.time_base = self._time_base
        self._last = picture.pts = max(round(time / self._time_base), self._last + 1)
        self._durations[picture.pts] = round(duration / self._time_base)
        self._mux(stream.encode(picture))
        self._count += 1

    def close(self) -> None:
        """Ends the file and puts it in its place.

        Raises:
          InputError: if no frame was written.
        """
        if self._stream is None:
            self.discard()
            raise InputError(f"no frames to write to {self._path}: expected at least one")
        self._mux(self._stream.encode(None))
        self._stack.close()

    def discard(self) -> None:
        """Leaves nothing behind."""
        with contextlib.suppress(InputError), self._stack:
            raise InputError("discarded")  # so that `written_whole` puts nothing in its place

    def _mux(self, packets) -> None:
        for packet in packets:
            # Encoders drop it, and the last frame would not stay for as long as it should.
            packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def _add_stream(self, height: int, width: int) -> av.VideoStream:
        self._size = (height, width)
        stream = self._container.add_stream(
            self._encoding.codec, rate=self._rate, options=dict(self._encoding.options)
        )
        assert isinstance(stream, av.VideoStream)
        even = self._encoding.even
        stream.height, stream.width = height + height % 2 * even, width + width % 2 * even
        stream.pix_fmt = self._encoding.pixels
        stream.codec_context.time_base = self._time_base
        stream.sample_aspect_ratio = self._aspect
        return stream


def check_encoder(encoding: Encoding) -> None:
    """Finds out whether this PyAV can encode so.

    Raises:
      InputError: if not.
    """
    try:
        formats = {f.name for f in av.Codec(encoding.codec, "w").video_formats or ()}
    except av.codec.codec.UnknownCodecError:
        formats = set()
    if encoding.pixels not in formats:
        raise InputError(
            f"this PyAV ({av.__version__}) has no {encoding.codec} that encodes {encoding.pixels},"
            f" which a {encoding.container} needs here: install av from PyPI, or choose another"
            " output"
        )


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Writes an H.264 mp4 of a constant rate (see `VideoWriter`).

    Args:
      path: of the .mp4 to write.
      frames: uint8 `[h, w, 3]` RGB, one at a time, all of one size.
      fps: frames a second, above 0.

    Returns:
      The path.

    Raises:
      InputError: if there are no frames, they differ in size, or fps is not above 0.
      ValueError: if one is not uint8 `[h, w, 3]`.
    """
    path = Path(path)
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps {fps!r}: expected a number above 0")
    rate = Fraction(fps).limit_denominator(100_000)  # 30000/1001 and its kin stay exact
    writer = VideoWriter(path, rate=rate, time_base=1 / rate)
    try:
        for number, frame in enumerate(frames):
            writer.write(frame, number / rate, 1 / rate)
    except BaseException:
        writer.discard()
        raise
    writer.close()
    return path
