"""Frames read as they are displayed, whichever way they are stored; videos written whole."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.video import FOLDER_FPS, VideoReader, write_video

CLOSE = 8  # of 255: what yuv420p and the encoder may change of a flat colour
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


def turned_clockwise(path, target):
    """The same mp4, with the display matrix that a phone writes when held upright."""
    as_stored = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    content = path.read_bytes()
    at = content.index(as_stored, content.index(b"tkhd"))
    target.write_bytes(content[:at] + turned + content[at + len(turned) :])
    return target


def test_a_written_video_reads_back_frame_by_frame(tmp_path):
    frames = [picture(64, 96, shade) for shade in (0, 30, 60, 90, 120)]
    path = write_video(tmp_path / "clip.mp4", iter(frames), fps=30000 / 1001)
    reader = VideoReader(path)
    assert reader.size == (64, 96)
    assert reader.count == 5
    assert reader.fps == pytest.approx(30000 / 1001)
    read = list(reader)
    assert len(read) == 5
    for image, expected in zip(read, frames, strict=True):
        assert_close(image, expected)
    assert_close(reader.frame(3), frames[3])


def test_a_reader_can_be_read_again_and_twice_at_once(tmp_path):
    reader = VideoReader(write_video(tmp_path / "c.mp4", [picture(32, 32, s) for s in (0, 90)], 10))
    pairs = list(zip(reader, reader, strict=True))
    assert len(pairs) == 2
    assert all(np.array_equal(one, other) for one, other in pairs)
    assert len(list(reader)) == 2


def test_odd_sizes_grow_by_a_repeated_row_and_column(tmp_path):
    frame = picture(45, 67)
    path = write_video(tmp_path / "odd.mp4", [frame] * 3, fps=25)
    reader = VideoReader(path)
    assert reader.size == (46, 68)
    image = reader.frame(0)
    assert_close(image[:45, :67], frame)
    assert np.abs(image[45, :30].astype(int) - BOTTOM_HALF).max() <= CLOSE
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


BOTTOM_HALF = np.array(BOTTOM) // 2


def test_a_phones_rotation_is_applied(tmp_path):
    stored = picture(64, 96)
    upright = write_video(tmp_path / "stored.mp4", [stored] * 2, fps=25)
    reader = VideoReader(turned_clockwise(upright, tmp_path / "turned.mp4"))
    assert reader.size == (96, 64)
    shown = reader.frame(1)
    assert_close(shown, np.rot90(stored, -1))  # -1: clockwise
    assert shown.flags.c_contiguous


def test_a_variable_frame_rate_keeps_every_frame_and_averages(tmp_path):
    path = tmp_path / "variable.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=50)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 50)
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(picture(32, 32, 5 * index), format="rgb24")
            frame.pts, frame.time_base = 5 * index + index % 2 * 3, Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert len(list(reader)) == reader.count == 20
    assert reader.fps == pytest.approx(10, rel=0.1)  # two frames in ten fiftieths of a second


@pytest.mark.parametrize("suffix", ["webm", "gif"])
def test_webm_and_gif_are_read(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    codec, pixels = {"webm": ("libvpx", "yuv420p"), "gif": ("gif", "rgb8")}[suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        for shade in (0, 30, 60, 90, 120):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, shade), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    frames = list(reader)
    assert reader.size == (48, 64)
    assert reader.fps == pytest.approx(10)
    assert reader.count is None or reader.count == 5
    assert len(frames) == 5
    assert all(frame.shape == (48, 64, 3) for frame in frames)
    assert frames[4].mean() > frames[0].mean() + 60


def save_images(folder, names, size=(24, 40)):
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(np.full((*size, 3), number * 20, np.uint8)).save(folder / name)
    return folder


def test_a_folder_is_read_in_natural_order(tmp_path):
    folder = save_images(tmp_path / "clip", ["0.png", "1.PNG", "9.png", "10.png", "100.png"])
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._1.png").write_bytes(b"what macOS leaves beside a file")
    reader = VideoReader(folder)
    assert (reader.count, reader.size, reader.fps) == (5, (24, 40), FOLDER_FPS)
    assert [int(frame[0, 0, 0]) for frame in reader] == [0, 20, 40, 60, 80]
    assert reader.frame(3)[0, 0, 0] == 60


def test_images_of_every_kind_become_rgb(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    red = np.broadcast_to(np.uint8([200, 10, 20]), (16, 16, 3))
    Image.fromarray(np.ascontiguousarray(red)).save(folder / "0.png")
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(folder / "1.png")
    Image.fromarray(np.ascontiguousarray(red)).quantize(4).save(folder / "2.png")
    Image.fromarray(np.dstack([red, np.full((16, 16), 255, np.uint8)])).save(folder / "3.png")
    frames = list(VideoReader(folder))
    assert [tuple(map(int, frame[8, 8])) for frame in frames] == [
        (200, 10, 20),
        (90, 90, 90),
        (200, 10, 20),
        (200, 10, 20),
    ]


def test_a_photos_exif_rotation_is_applied(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    stored = picture(64, 96)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(stored).save(folder / "0.jpg", exif=exif, quality=95)
    reader = VideoReader(folder)
    assert reader.size == (96, 64)
    assert_close(reader.frame(0), np.rot90(stored, -1), border=12)


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        list(VideoReader(path))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


def test_what_is_no_video_is_refused_by_name(tmp_path):
    refused(tmp_path / "absent.mp4", tmp_path / "absent.mp4", "not found")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    refused(text, text, "cannot be opened", "Invalid data")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, empty, "no images", ".jpg")


def test_a_video_without_frames_is_refused(tmp_path):
    path = tmp_path / "hollow.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    refused(path, path, "no frames")


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    refused(path, path, "no video stream")


def test_an_image_of_another_size_is_refused_by_name(tmp_path):
    folder = save_images(tmp_path / "clip", ["0.png", "1.png"])
    Image.fromarray(np.zeros((24, 41, 3), np.uint8)).save(folder / "2.png")
    refused(folder, folder / "2.png", "41x24", "40x24")


def test_a_broken_image_is_refused_by_name(tmp_path):
    folder = save_images(tmp_path / "clip", ["0.png", "1.png"])
    (folder / "1.png").write_bytes(b"")
    refused(folder, folder / "1.png", "cannot be opened")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:40])
    refused(folder, folder / "1.png")


def test_frames_beside_their_masks_are_refused(tmp_path):
    folder = save_images(tmp_path / "clip", ["00000.jpg", "00000.png", "00001.jpg"])
    refused(folder, "2 images named 00000", "separate folders")


@pytest.mark.parametrize("index", [-1, 2])
def test_a_frame_that_does_not_exist_is_refused(tmp_path, index):
    clip = write_video(tmp_path / "clip.mp4", [picture(32, 32)] * 2, fps=25)
    folder = save_images(tmp_path / "clip", ["0.png", "1.png"])
    for path in (clip, folder):
        with pytest.raises(InputError, match=f"frame {index} .*2 frames, 0 to 1"):
            VideoReader(path).frame(index)


def test_writing_fails_without_touching_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the old one")
    for frames, fps, message in [
        ([], 25, "no frames"),
        ([picture(32, 32), picture(32, 34)], 25, "frame 1 .* is 34x32"),
        ([picture(32, 32).astype(np.float32)], 25, "float32"),
        ([picture(32, 32)[..., 0]], 25, r"expected uint8 \[h, w, 3\]"),
        ([picture(32, 32)], 0, "fps 0"),
    ]:
        with pytest.raises(InputError, match=message):
            write_video(path, frames, fps)
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
