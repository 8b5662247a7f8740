"""Decodes the frames of an open container, detects damaged ones, and finds their orientation."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

# Formats of streams that may start anywhere.
_BROADCASTS = ("mpegts", "mpeg", "h264", "hevc", "mpegvideo")


class Decoded(NamedTuple):
    """A decoded frame; times are in the stream's time base."""

    pts: int | None  # presentation time; None if unknown
    key: bool  # whether it is a keyframe
    duration: int  # 0 if unknown
    picture: av.VideoFrame | None  # None if it could not be decoded
    problem: str | None  # why it could not be decoded


def packets(container) -> Iterator[tuple[av.Packet, bool]]:
    """Yields (packet, whether its picture is shown), the flushing packet last.

    Hidden pictures must be decoded too, because later ones depend on them: those that an edit list
    cuts off the beginning of an mp4, and VP8's invisible reference frames. Packets before the first
    keyframe of a broadcast are left out.
    """
    stream = container.streams.video[0]
    begun = container.format.name not in _BROADCASTS
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe
        # A bit of its header marks an invisible VP8 frame.
        hidden = stream.codec_context.name == "vp8" and packet.size and not bytes(packet)[0] & 16
        if begun or not packet.size:
            yield packet, bool(packet.size and not packet.is_discard and not hidden)


def decode(container) -> Iterator[Decoded]:
    """Yields frames in display order; a packet without a picture is a damaged frame.

    Decoders reorder frames, and report errors late or not at all. A frame is therefore lost once a
    later one comes out, even if it comes out after that.

    After a damaged keyframe, decoders continue from whatever picture they had and report no error:
    all frames up to the next keyframe count as damaged. After any other damaged frame the pictures
    usually differ little, and are kept.
    """
    due: list[int] = []  # a heap: times of packets whose frames have not come out
    lost: set[int] = set()  # times of lost frames
    begins: int | None = None  # time of the first packet; earlier frames depend on absent ones
    reason = "the decoder gives nothing for it"
    corrupt: set[int] = set()  # times of packets that the container marks as corrupt
    keys: set[int] = set()  # times of keyframes
    context = container.streams.video[0].codec_context
    timed, keyframe_damaged = True, False

    def check_keyframe(decoded: Decoded) -> Decoded:
        nonlocal keyframe_damaged
        if decoded.key or decoded.pts in keys:
            keyframe_damaged = decoded.problem is not None
        elif keyframe_damaged and decoded.problem is None:
            return decoded._replace(picture=None, problem="the keyframe before it is damaged")
        return decoded

    def lost_frames(before: float) -> Iterator[Decoded]:
        while due and due[0] < before:
            lost.add(due[0])
            yield check_keyframe(Decoded(heapq.heappop(due), False, 0, None, reason))

    for packet, shown in packets(container):
        if shown and packet.pts is not None:
            begins = packet.pts if begins is None else begins
            if packet.is_keyframe:
                keys.add(packet.pts)
            if packet.pts >= begins:
                heapq.heappush(due, packet.pts)
            if packet.is_corrupt:
                corrupt.add(packet.pts)
        try:
            pictures = context.decode(packet if packet.size else None)
        except av.FFmpegError as error:
            pictures, reason = [], error.strerror or str(error)
        for picture in pictures:
            if picture.pts is None:
                timed = False
            if timed:
                yield from lost_frames(picture.pts)
                while due and due[0] == picture.pts:
                    heapq.heappop(due)
            if picture.pts in lost:
                continue
            key, duration = picture.key_frame, picture.duration or 0
            decoded = Decoded(picture.pts, key, duration, picture, None)
            if picture.is_corrupt or picture.pts in corrupt:
                decoded = decoded._replace(picture=None, problem="its data are damaged")
            yield check_keyframe(decoded)
    if timed:
        yield from lost_frames(float("inf"))


class Orientation(NamedTuple):
    """How to turn a stored picture for display: transpose it, then reverse rows and columns."""

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False


def orientation(picture: av.VideoFrame) -> Orientation:
    """Reads the display matrix of a video's first frame, which holds for all frames.

    Not to be called for every frame: `side_data` puts the frame in a reference cycle, which keeps
    its pixels in memory until the next garbage collection.
    """
    side_data = picture.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation()
    matrix = memoryview(side_data).cast("B").cast("i").tolist()  # type: ignore[arg-type]
    a, b, _, c, d = matrix[:5]  # displayed x' = ax + cy, y' = bx + dy
    if abs(a) >= abs(b):  # phones turn by quarters; other angles are rounded to the nearest
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


def to_image(picture: av.VideoFrame, turn: Orientation) -> np.ndarray:
    """The picture as displayed, with its orientation applied: uint8 `[h, w, 3]` RGB."""
    image = picture.to_ndarray(format="rgb24")
    if turn.transpose:
        image = image.swapaxes(0, 1)
    rows, columns = -1 if turn.reverse_rows else 1, -1 if turn.reverse_columns else 1
    return np.ascontiguousarray(image[::rows, ::columns])
