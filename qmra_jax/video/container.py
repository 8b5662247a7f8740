"""Decoding a video file: every frame by its number, forwards or backwards, sound or damaged.

A frame's number is its place among those a plain decode gives, from 0. Going backwards seeks to a
keyframe and decodes from there; what comes out is held against the times that the plain decode
gave, so a number never slips, whatever B-frames, variable rates or a poor index do to seeking.
"""

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.video.decoding import Decoded, decode, orientation, packets, to_image

UNKNOWN_RATE = Fraction(25)  # for a file that names no rate, such as a lone image
BLOCK_BYTES = 192 << 20  # of decoded frames, which going backwards may hold at a time
_FINEST = 1_000_000  # ticks a second; a finer clock says no more of a film
_SLACK = Fraction(1, 4)  # seconds by which a sound file may end before the time in its header


class VideoFile:
    """A video file (mp4, webm, gif, ...): its first video stream.

    Attributes:
      path: of the file.
      rate: frames a second, on average.
      time_base: seconds of a tick of the file's clock, or of a coarser one that suits encoders.
      start: the first frame's `pts`.
      pixel_aspect: a pixel's width over its height as it is displayed.
      size: (height, width) of the first sound frame, as displayed.
    Raises:
      InputError: if the file cannot be opened, or holds no video, or no sound frame.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stamps: list[Decoded] = []  # without pictures: of the first frames
        with _open(path) as container:
            stream = container.streams.video[0]
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or UNKNOWN_RATE)
            self._tick = stream.time_base or 1 / self.rate
            self.time_base = max(self._tick, Fraction(1, _FINEST))
            self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            index = _index(container, stream)
            end = path.stat().st_size
            # One that begins in the file comes as a damaged frame.
            self._missing = sum(entry.pos >= end for entry in index) if index else None
            self._count = len(index) - (self._missing or 0) or None
            # No other container that is common states its own length.
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
            raise InputError(
                f"video {path} has no frames: expected at least one; check that the file is"
                " complete"
            )
        self._turn = orientation(first)
        self.size = self.image(first).shape[:2]
        if self._turn.on_its_side:
            self.pixel_aspect = 1 / self.pixel_aspect

    def count(self) -> int:
        """How many frames there are: from an mp4's index, or by reading packets undecoded.

        Files whose packets do not tell are decoded. A damaged one may have a few less.
        """
        if self._count is None:
            times: list[int | None] = []
            with _open(self.path) as container:
                try:
                    for packet, shown in packets(container):
                        if shown:
                            times.append(packet.pts)
                except av.FFmpegError:
                    pass  # damaged from there on, as decoding will tell with the frame's number
            told = None not in times and len(set(times)) == len(times)
            self._count = len(times) if told else sum(1 for _ in self.decode())
        return self._count

    @property
    def missing(self) -> int:
        """How many frames a file that was cut off lacks; 0 where it does not tell, as a gif.

        An mp4's index lists them; of mkv and webm it is estimated from the length in the header.
        """
        if self._missing is None:
            self._missing = 0
            if self._ends is not None:
                lacks = self._ends - self._reach()
                self._missing = round(lacks * self.rate) if lacks > _SLACK else 0
        return self._missing

    def _reach(self) -> Fraction:
        """When the last packet of any stream ends, in seconds; found without decoding."""
        reach = Fraction(0)
        with _open(self.path) as container, contextlib.suppress(av.FFmpegError):
            for packet in container.demux():
                if packet.size and packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    reach = max(reach, end)
        return reach

    def image(self, picture: av.VideoFrame) -> np.ndarray:
        """The picture as a player shows it, the display matrix applied: uint8 `[h, w, 3]` RGB."""
        return to_image(picture, self._turn)

    def seconds(self, number: int, pts: int | None) -> Fraction:
        """When a frame is shown, counted from the first one."""
        return number / self.rate if pts is None else (pts - self.start) * self._tick

    def duration(self, decoded: Decoded) -> Fraction:
        """How long a frame is shown, in seconds."""
        return decoded.duration * self._tick or 1 / self.rate

    def decode(self, key: int | None = None) -> Iterator[Decoded]:
        """Every frame in the order in which they are shown, damaged ones too.

        Args:
          key: `pts` of a keyframe to begin at or before; None: the first frame.

        Raises:
          InputError: if the file cannot be read on.
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
                    f"video {self.path} cannot be read on after {after}"
                    f" ({error.strerror or error}): the file is damaged or incomplete; get it"
                    " again, or cut it there"
                ) from None

    def backwards(self, stop: int) -> Iterator[tuple[int, Decoded]]:
        """(number, frame) of frames `stop` - 1 to 0, a bounded number of them held at a time."""
        self._stamp(stop)
        size = 4  # of a block; then as many as their bytes allow
        while stop > 0:
            first = max(0, stop - size)
            block = self._block(first, stop)
            sizes = [_bytes(d.picture) for d in block if d.picture is not None]
            while block:
                stop -= 1
                yield stop, block.pop()
            size = int(np.clip(BLOCK_BYTES // max([1, *sizes]), 4, 256))

    def frame(self, number: int) -> Decoded | None:
        """A frame by its number; None if there is none."""
        if number < 0:
            return None
        self._stamp(number + 1)
        return self._block(number, number + 1)[0] if number < len(self._stamps) else None

    def _stamp(self, stop: int) -> None:
        """Decodes the first `stop` frames, unless that was done, to know their times."""
        if len(self._stamps) < stop:
            head = itertools.islice(self.decode(), stop)
            self._stamps = [decoded._replace(picture=None) for decoded in head]

    def _block(self, first: int, stop: int) -> list[Decoded]:
        """Frames `first` to `stop` - 1, of which the times are known."""
        stamps = self._stamps
        keys = (k for k in range(first, 0, -1) if stamps[k].key and not stamps[k].problem)
        key = next(keys, None)
        if key is not None and stamps[key].pts is not None:
            block = self._after_key(key, first, stop)
            if block is not None:
                return block
        return list(itertools.islice(self.decode(), first, stop))

    def _after_key(self, key: int, first: int, stop: int) -> list[Decoded] | None:
        """The same, decoded from a keyframe; None if other frames came than a plain decode gives"""
        block: list[Decoded] = []
        number, begins = key, self._stamps[key].pts or 0
        try:
            for decoded in self.decode(begins):
                if number == key and (decoded.pts is None or decoded.pts < begins):
                    continue  # the seek went further back, or they lean on frames before it
                known = self._stamps[number]
                if decoded.pts != known.pts or bool(decoded.problem) != bool(known.problem):
                    return None
                if number >= first:
                    block.append(decoded)
                number += 1
                if number == stop:
                    return block
        except InputError:
            pass  # a container that cannot seek
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
    """An mp4's samples, of which its header has a table; nothing for others."""
    if "mp4" not in container.format.name:
        return []
    entries = getattr(stream, "index_entries", [])  # PyAV 14 has none
    return [entry for entry in entries if not entry.is_discard]


def _bytes(picture: av.VideoFrame) -> int:
    return sum(plane.buffer_size for plane in picture.planes)
