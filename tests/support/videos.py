"""Pictures that survive a video's encoder, and how they come back."""

import av
import numpy as np

CLOSE = 10  # of 255: what yuv420p and the encoder may change of a flat colour
TOP_LEFT, TOP_RIGHT, BOTTOM = (220, 40, 40), (40, 160, 60), (50, 70, 200)


def picture(height, width, shade=0):
    """Three flat fields, so that every turn and flip shows."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = TOP_LEFT
    image[: height // 2, width // 2 :] = TOP_RIGHT
    image[height // 2 :] = BOTTOM
    return image // 2 + np.uint8(shade)


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
