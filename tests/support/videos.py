"""Pictures that survive a video's encoder, and how they come back."""

from fractions import Fraction

import av
import numpy as np

from qmra_jax.video.writer import VideoWriter

CLOSE = 10  # of 255: what yuv420p and the encoder may change of a flat colour
TOP_LEFT, TOP_RIGHT, BOTTOM = (220, 40, 40), (40, 160, 60), (50, 70, 200)


def picture(height, width, shade=0):
    """Three flat fields, so that every turn and flip shows."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = TOP_LEFT
    image[: height // 2, width // 2 :] = TOP_RIGHT
    image[height // 2 :] = BOTTOM
    return image // 2 + np.uint8(shade)


def write_video(path, images, fps):
    """Writes images uint8 `[h, w, 3]` as an H.264 mp4 with a constant frame rate."""
    rate = Fraction(fps).limit_denominator(100_000)
    with VideoWriter(path, rate=rate, time_base=1 / rate) as writer:
        for number, image in enumerate(images):
            writer.write(image, number / rate, 1 / rate)
    return path


def assert_close(image, expected, border=4):
    """Equal fields; the pixels beside their edges share colour in yuv420p, and are left out."""
    assert image.shape == expected.shape
    assert image.dtype == np.uint8
    h, w = expected.shape[:2]
    for rows in (slice(0, h // 2 - border), slice(h // 2 + border, h)):
        for columns in (slice(0, w // 2 - border), slice(w // 2 + border, w)):
            difference = image[rows, columns].astype(int) - expected[rows, columns]
            assert np.abs(difference).max() <= CLOSE


def read_rgba(path):
    """Frames with alpha, which only libvpx's own decoder gives."""
    frames = []
    with av.open(str(path)) as container:
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        for packet in container.demux(video=0):
            frames += decoder.decode(packet if packet.size else None)
    return [frame.to_ndarray(format="rgba") for frame in frames]
