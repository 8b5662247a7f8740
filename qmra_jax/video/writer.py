"""Writes video files atomically, each frame with its own time."""

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole
from qmra_jax.images import size_text


@dataclass(frozen=True)
class Encoding:
    """An encoding, in FFmpeg's names."""

    codec: str
    container: str
    source: str  # pixel format of the images to write: rgb24 or rgba
    pixels: str  # pixel format of the encoder
    options: dict[str, str]  # of the encoder
    muxer: dict[str, str]  # options of the container
    even: bool  # whether height and width must be even


H264 = Encoding(  # plays everywhere
    codec="libx264",
    container="mp4",
    source="rgb24",
    pixels="yuv420p",
    # The colour matrix is stated in the stream, or players guess it from the size.
    options={
        "crf": "18",
        "preset": "veryfast",
        "bf": "0",  # an mp4's duration ends with the last frame in decoding order
        "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709",
    },
    muxer={"movflags": "faststart"},  # starts to play before it is downloaded
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
    """Writes a video frame by frame, as a context manager.

    The file appears under its name when the block ends, replacing an existing one; no file is
    written if the block raises or writes no frames. H.264's yuv420p needs even sizes: an odd height
    or width grows by one, with the last row or column repeated.
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
        """Checks the encoder; opens nothing yet.

        Args:
          path: of the file; missing folders are created.
          rate: average frames per second.
          time_base: unit in seconds to which the frames' times are rounded.
          pixel_aspect: width over height of a displayed pixel.
          encoding: codec, container and pixel format.

        Raises:
          InputError: if there is no such encoder.
        """
        check_encoder(encoding)
        self._path, self._encoding = path, encoding
        self._rate, self._time_base, self._aspect = rate, time_base, pixel_aspect
        self._stack = contextlib.ExitStack()
        self._stream: av.VideoStream | None = None
        self._size = (0, 0)
        self._count = 0
        self._last_time = -1
        self._durations: dict[int, int] = {}  # time -> duration of frames being encoded

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def write(self, image: np.ndarray, time: Fraction, duration: Fraction) -> None:
        """Adds a frame.

        Args:
          image: uint8 `[h, w, c]`, RGB or RGBA as the encoding needs, all of one size.
          time: seconds since the first frame; moved to one tick after the last frame if needed.
          duration: in seconds.

        Raises:
          InputError: if the image differs in size from the first, or the folder is not writable.
          ValueError: if it is not uint8 with the right number of channels.
        """
        stream = self._stream = self._stream or self._open(*image.shape[:2])
        if image.shape[:2] != self._size:
            raise InputError(
                f"frame {self._count} for {self._path} is {size_text(image.shape)}, the first frame"
                f" {size_text(self._size)}: expected one size"
            )
        if self._encoding.even and (self._size[0] % 2 or self._size[1] % 2):
            grown = ((0, self._size[0] % 2), (0, self._size[1] % 2), (0, 0))
            image = np.pad(image, grown, mode="edge")
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format=self._encoding.source
        )
        picture = picture.reformat(format=self._encoding.pixels, dst_colorspace="ITU709")
        picture.time_base = self._time_base
        self._last_time = picture.pts = max(round(time / self._time_base), self._last_time + 1)
        self._durations[picture.pts] = round(duration / self._time_base)
        self._mux(stream.encode(picture))
        self._count += 1

    def _mux(self, packets) -> None:
        for packet in packets:
            # Encoders drop the duration, without which the last frame would be too short.
            packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def _open(self, height: int, width: int) -> av.VideoStream:
        part = self._stack.enter_context(written_whole(self._path))
        self._container = self._stack.enter_context(
            av.open(str(part), "w", format=self._encoding.container, options=self._encoding.muxer)
        )
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
        self._stack.push(self._flush)
        return stream

    def _flush(self, kind, *_) -> None:
        if kind is None and self._stream is not None:
            self._mux(self._stream.encode(None))


def check_encoder(encoding: Encoding) -> None:
    """Checks that the installed PyAV supports the encoding.

    Raises:
      InputError: if it does not.
    """
    try:
        formats = {f.name for f in av.Codec(encoding.codec, "w").video_formats or ()}
    except av.codec.codec.UnknownCodecError:
        formats = set()
    if encoding.pixels not in formats:
        raise InputError(
            f"PyAV {av.__version__} has no {encoding.codec} encoder for {encoding.pixels}, which"
            f" {encoding.container} output needs: install av from PyPI, or choose another output"
        )
