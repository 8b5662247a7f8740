"""Decodes a video file forwards or backwards, with stable frame numbers, damaged frames included.

A frame's number is its index in a plain decode of the file. Going backwards seeks to a keyframe and
decodes from there; the result is checked against the times of the plain decode, so that numbers
stay right despite B-frames, variable rates or a poor index.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.video.decoding import Decoded, decode, orientation, packets, to_image

UNKNOWN_RATE = Fraction(25)  # frames per second of a file that states none, such as a single image
BLOCK_BYTES = 192 << 20  # of decoded frames held at a time when going backwards
_FINEST = 1_000_000  # ticks per second; a finer clock adds nothing
_SLACK = Fraction(1, 4)  # seconds by which an intact file may end before its header's duration


class VideoFile:
    """The first video stream of a file (mp4, webm, gif, ...).

    Attributes:
      path: of the file.
      rate: average frames per second.
      time_base: seconds per tick of the file's clock, or of a coarser clock that suits encoders.
      start: `pts` of the first frame.
      pixel_aspect: width over height of a displayed pixel.
      size: (height, width) of the first undamaged frame, as displayed.

    Raises:
      InputError: if the file cannot be opened or holds no video, or no undamaged frame.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stamps: list[Decoded] = []  # of the first frames, without pictures
        with _open(path) as container:
            stream = container.streams.video[0]
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or UNKNOWN_RATE)
            self._tick = stream.time_base or 1 / self.rate
            self.time_base = max(self._tick, Fraction(1, _FINEST))
            self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            index = _index(container, stream)
            end = path.stat().st_size
            # A sample that the file contains in part is a damaged frame, not a missing one.
            self._indexed, self._cut_off = len(index), sum(entry.pos >= end for entry in index)
            # Of the common containers, only matroska (mkv, webm) states its duration up front.
            states = "matroska" in container.format.name and container.duration
            self._ends = Fraction(container.duration, av.time_base) if states else None
        first = None
        for number, decoded in enumerate(self.decode()):
            if number == 0:
                self.start = decoded.pts or 0
            if decoded.picture is not None:
                first = decoded.picture
                break
        if first is None:
            raise InputError(f"video {path} has no frames that decode: check that it is complete")
        self._turn = orientation(first)
        self.size = self.image(first).shape[:2]
        if self._turn.transpose:
            self.pixel_aspect = 1 / self.pixel_aspect

    @functools.cached_property
    def count(self) -> int:
        """Number of frames: from an mp4's index, or else by reading packets without decoding.

        Decodes only if packets have no times. May be slightly too high for a damaged file.
        """
        if self._indexed > self._cut_off:
            return self._indexed - self._cut_off
        times: list[int | None] = []
        # Damage ends the count; decoding reports it with the frame's number.
        with _open(self.path) as container, contextlib.suppress(av.FFmpegError):
            times.extend(packet.pts for packet, shown in packets(container) if shown)
        if None in times or len(set(times)) < len(times):
            return sum(1 for _ in self.decode())
        return len(times)

    @functools.cached_property
    def missing(self) -> int:
        """Number of frames that a truncated file lacks; 0 if unknown, as for a gif.

        Exact for an mp4, whose index lists them; estimated from the header's duration for mkv and
        webm.
        """
        if self._indexed or self._ends is None:
            return self._cut_off
        absent = self._ends - self._last_packet_end()
        return round(absent * self.rate) if absent > _SLACK else 0

    def _last_packet_end(self) -> Fraction:
        """End of the last packet of any stream, in seconds."""
        last = Fraction(0)
        with _open(self.path) as container, contextlib.suppress(av.FFmpegError):
            for packet in container.demux():
                if packet.size and packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    last = max(last, end)
        return last

    def image(self, picture: av.VideoFrame) -> np.ndarray:
        """The picture as displayed, uint8 `[h, w, 3]` RGB."""
        return to_image(picture, self._turn)

    def seconds(self, number: int, pts: int | None) -> Fraction:
        """Time of a frame, 0 for the first one."""
        return number / self.rate if pts is None else (pts - self.start) * self._tick

    def duration(self, decoded: Decoded) -> Fraction:
        """Duration of a frame in seconds."""
        return decoded.duration * self._tick or 1 / self.rate

    def decode(self, key: int | None = None) -> Iterator[Decoded]:
        """Yields every frame in display order, including damaged ones.

        Args:
          key: `pts` of a keyframe to start at or before; None: the first frame.

        Raises:
          InputError: if the rest of the file cannot be read.
        """
        number = 0
        with _open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                if key is not None:
                    container.seek(key, stream=stream)
                for decoded in decode(container):
                    yield decoded
                    number += 1
            except av.FFmpegError as error:
                after = f"{number} frames" if key is None else "a keyframe"
                raise InputError(
                    f"video {self.path} cannot be read after {after}"
                    f" ({error.strerror or error}): the file is damaged or incomplete; replace it,"
                    " or cut it there"
                ) from None

    def backwards(self, stop: int) -> Iterator[tuple[int, Decoded]]:
        """Yields (number, frame) for `stop` - 1 down to 0, holding at most `BLOCK_BYTES`."""
        self._stamp(stop)
        size = 4  # frames of the first block
        while stop > 0:
            first = max(0, stop - size)
            block = self._block(first, stop)
            sizes = [_bytes(d.picture) for d in block if d.picture is not None]
            while block:
                stop -= 1
                yield stop, block.pop()
            size = int(np.clip(BLOCK_BYTES // max([1, *sizes]), 4, 256))

    def frame(self, number: int) -> Decoded | None:
        """The frame of this number, or None if there is none."""
        if number < 0:
            return None
        self._stamp(number + 1)
        return self._block(number, number + 1)[0] if number < len(self._stamps) else None

    def _stamp(self, stop: int) -> None:
        """Makes the times of the first `stop` frames known, by decoding them once."""
        if len(self._stamps) < stop:
            head = itertools.islice(self.decode(), stop)
            self._stamps = [decoded._replace(picture=None) for decoded in head]

    def _block(self, first: int, stop: int) -> list[Decoded]:
        """Frames `first` to `stop` - 1, whose times are known."""
        stamps = self._stamps
        keys = (k for k in range(first, 0, -1) if stamps[k].key and not stamps[k].problem)
        key = next(keys, None)
        if key is not None and stamps[key].pts is not None:
            block = self._after_key(key, first, stop)
            if block is not None:
                return block
        return list(itertools.islice(self.decode(), first, stop))

    def _after_key(self, key: int, first: int, stop: int) -> list[Decoded] | None:
        """`_block` decoded from a keyframe; None if the frames differ from a plain decode's."""
        block: list[Decoded] = []
        number, begins = key, self._stamps[key].pts or 0
        try:
            for decoded in self.decode(begins):
                if number == key and (decoded.pts is None or decoded.pts < begins):
                    continue  # the seek went further back, or it depends on frames before the key
                stamp = self._stamps[number]
                if decoded.pts != stamp.pts or bool(decoded.problem) != bool(stamp.problem):
                    return None
                if number >= first:
                    block.append(decoded)
                number += 1
                if number == stop:
                    return block
        except InputError:
            pass  # the container cannot seek
        return None


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


def _index(container, stream) -> list:
    """The sample table of an mp4; empty for other containers."""
    if "mp4" not in container.format.name:
        return []
    entries = getattr(stream, "index_entries", [])  # PyAV 14 has none
    return [entry for entry in entries if not entry.is_discard]


def _bytes(picture: av.VideoFrame) -> int:
    return sum(plane.buffer_size for plane in picture.planes)
