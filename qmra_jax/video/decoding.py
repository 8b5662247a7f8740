"""Frames out of an open container: which of them are damaged, and which way up they are."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

# Recordings that may begin anywhere.
_BROADCASTS = ("mpegts", "mpeg", "h264", "hevc", "mpegvideo")


class Decoded(NamedTuple):
    """A frame as the decoder gives it.

    Attributes:
      pts: when it is shown, in the stream's time base; None if the file does not tell.
      key: whether decoding can begin with it.
      duration: in the stream's time base; 0 if the file does not tell.
      picture: None if it could not be decoded.
      problem: why not; None for a sound frame.
    """

    pts: int | None
    key: bool
    duration: int
    picture: av.VideoFrame | None
    problem: str | None


def packets(container) -> Iterator[tuple[av.Packet, bool]]:
    """(packet, whether its picture is shown), for a decoder to take; at last the one that flushes.

    What is not shown is decoded all the same, as later pictures lean on it: what an edit list cuts
    off an mp4's beginning, up to the keyframe before, and pictures that VP8 keeps to predict from.
    But a broadcast may begin anywhere, and what precedes its first keyframe no player shows.
    """
    stream = container.streams.video[0]
    begun = container.format.name not in _BROADCASTS
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe
        # VP8's pictures to predict from have packets of their own; a bit tells.
        hidden = stream.codec_context.name == "vp8" and packet.size and not bytes(packet)[0] & 16
        if begun or not packet.size:
            yield packet, bool(packet.size and not packet.is_discard and not hidden)


def decode(container) -> Iterator[Decoded]:
    """Frames as they come; a packet from which nothing comes is a damaged frame.

    Decoders reorder, and report an error late or not at all; so a frame is missed when one with a
    later time comes out. Comes it later still, it stays missed.

    After a damaged keyframe decoders go on with whatever picture they had, and call the result
    sound: everything up to the next keyframe is damaged too. After any other damaged frame the
    pictures differ little as a rule, and are given.
    """
    due: list[int] = []  # a heap: the times of packets whose frames have not come
    gone: set[int] = set()  # times of missed frames
    begins: int | None = None  # of the first keyframe; what is shown before leans on absent frames
    reason = "the decoder gives nothing for it"
    damaged: set[int] = set()  # told by the container
    keys: set[int] = set()  # times of keyframes
    context = container.streams.video[0].codec_context
    timed, adrift = True, False  # adrift: the last keyframe was damaged

    def judged(decoded: Decoded) -> Decoded:
        nonlocal adrift
        if decoded.key or decoded.pts in keys:
            adrift = decoded.problem is not None
        elif adrift and decoded.problem is None:
            return decoded._replace(picture=None, problem="the keyframe before it is damaged")
        return decoded

    def missed(before: float) -> Iterator[Decoded]:
        while due and due[0] < before:
            gone.add(due[0])
            yield judged(Decoded(heapq.heappop(due), False, 0, None, reason))

    for packet, shown in packets(container):
        if shown and packet.pts is not None:
            begins = packet.pts if begins is None else begins
            if packet.is_keyframe:
                keys.add(packet.pts)
            if packet.pts >= begins:
                heapq.heappush(due, packet.pts)
            if packet.is_corrupt:
                damaged.add(packet.pts)
        try:
            pictures = context.decode(packet if packet.size else None)
        except av.FFmpegError as error:
            pictures, reason = [], error.strerror or str(error)
        for picture in pictures:
            if picture.pts is None:
                timed = False
            if timed:
                yield from missed(picture.pts)
                while due and due[0] == picture.pts:
                    heapq.heappop(due)
            if picture.pts in gone:
                continue
            key, duration = picture.key_frame, picture.duration or 0
            if picture.is_corrupt or picture.pts in damaged:
                yield judged(Decoded(picture.pts, key, duration, None, "its data are damaged"))
            else:
                yield judged(Decoded(picture.pts, key, duration, picture, None))
    if timed:
        yield from missed(float("inf"))


class Orientation(NamedTuple):
    """Signs of x' = ax + cy, y' = bx + dy, from a stored to a displayed pixel.

    Either a and d or b and c are 0.
    """

    a: int = 1
    b: int = 0
    c: int = 0
    d: int = 1

    @property
    def on_its_side(self) -> bool:
        """Whether the displayed picture's width is the stored one's height."""
        return self.a == 0


def orientation(picture: av.VideoFrame) -> Orientation:
    """What the display matrix of a video's first frame says of all of them.

    Asking every frame would be costly: `side_data` ties a frame into a reference cycle, and its
    pixels stay in memory until Python's collector comes by.
    """
    side_data = picture.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation()
    matrix = np.asarray(memoryview(side_data).cast("B").cast("i")[:5], np.int64)  # type: ignore[arg-type]
    a, b, _, c, d = np.sign(matrix).tolist()
    # Phones turn by quarters; what is between takes the nearest one.
    if abs(matrix[0]) >= abs(matrix[1]):
        return Orientation(a or 1, 0, 0, d or 1)
    return Orientation(0, b, c or 1, 0)


def to_image(picture: av.VideoFrame, turn: Orientation) -> np.ndarray:
    """The picture as a player shows it: uint8 `[h, w, 3]` RGB."""
    image = picture.to_ndarray(format="rgb24")
    down, right = (turn.d, turn.a)
    if turn.on_its_side:
        image, down, right = image.swapaxes(0, 1), turn.b, turn.c
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
