"""Frames read as they are displayed, whichever way they are stored, forwards and backwards."""

import gc
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.video import container as video_file
from qmra_jax.video.reader import FOLDER_FPS, VideoReader
from qmra_jax.video.writer import write_video
from tests.support.videos import assert_close, picture


def turned(path, target, a, b, c, d):
    """The same mp4, with another display matrix: x' = ax + cy, y' = bx + dy."""
    as_stored = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
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


@pytest.mark.parametrize(
    ("matrix", "displayed"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright: clockwise
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),  # a mirrored selfie
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_a_phones_rotation_is_applied(tmp_path, matrix, displayed):
    stored = picture(64, 96)
    upright = write_video(tmp_path / "stored.mp4", [stored] * 2, fps=25)
    reader = VideoReader(turned(upright, tmp_path / "turned.mp4", *matrix))
    expected = displayed(stored)
    assert reader.size == expected.shape[:2]
    shown = reader.frame(1)
    assert_close(shown, expected)
    assert shown.flags.c_contiguous
    assert np.array_equal(next(reader.backwards(2)), shown)


def test_pixels_that_are_not_square_are_told_as_they_are_displayed(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(64, 96), format="rgb24")))
        container.mux(stream.encode(None))
    assert VideoReader(path).pixel_aspect == Fraction(4, 3)
    on_its_side = turned(path, tmp_path / "turned.mp4", 0, 1, -1, 0)
    assert VideoReader(on_its_side).pixel_aspect == Fraction(3, 4)


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
    frames = list(reader.frames())
    assert len(frames) == reader.count == 20
    assert reader.fps == pytest.approx(10, rel=0.1)  # two frames in ten fiftieths of a second
    expected = [Fraction(5 * index + index % 2 * 3, 50) for index in range(20)]
    assert [frame.time for frame in frames] == expected
    assert frames[0].duration == Fraction(8, 50)


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
    assert reader.count == 5
    assert [float(frame.time) for frame in reader.frames()] == [0, 0.1, 0.2, 0.3, 0.4]
    assert len(frames) == 5
    assert all(frame.shape == (48, 64, 3) for frame in frames)
    assert frames[4].mean() > frames[0].mean() + 60


def moving(number, height=64, width=96):
    """Differs from every other frame, in a way that no encoder loses."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, (5 * number) % width : (5 * number) % width + 8] = 90 + number * 7 % 160
    image[: height // 2, ::7] = 20 + number * 3 % 200
    return image


def encode(path, codec, count=40, pixels="yuv420p", options=None, times=None):
    """A video of `moving` frames; `times` are in hundredths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixels
        stream.codec_context.time_base = Fraction(1, 100)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(moving(number), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts = times[number] if times else 4 * number
            frame.time_base = Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


B_FRAMES = {"g": "12", "bf": "3", "b_strategy": "0", "sc_threshold": "0"}
OPEN_GOP = {**B_FRAMES, "x264-params": "open-gop=1"}
UNEVEN = [4 * n + n % 2 + 30 * (n > 20) for n in range(40)]


@pytest.mark.parametrize(
    ("name", "codec", "settings"),
    [
        ("b.mp4", "libx264", {"options": B_FRAMES}),
        ("b.mkv", "libx264", {"options": OPEN_GOP, "times": UNEVEN}),
        ("b.ts", "libx264", {"options": B_FRAMES}),
        ("one_keyframe.mp4", "libx264", {"options": {"g": "250"}, "times": UNEVEN}),
        ("b.avi", "mpeg4", {"options": {"bf": "2", "g": "9"}}),
        ("c.webm", "libvpx-vp9", {"options": {"g": "12", "lag-in-frames": "8", "cpu-used": "8"}}),
        ("c.gif", "gif", {"pixels": "rgb8"}),
    ],
)
def test_backwards_gives_the_frames_of_a_plain_decode_by_their_numbers(
    tmp_path, monkeypatch, name, codec, settings
):
    monkeypatch.setattr(video_file, "BLOCK_BYTES", 7 * 64 * 96 * 3 // 2)  # blocks of about seven
    reader = VideoReader(encode(tmp_path / name, codec, **settings))
    forwards = list(reader.frames())
    assert reader.count == len(forwards) == 40
    backwards = list(reader.frames_backwards(33))
    assert [frame.number for frame in backwards] == list(reversed(range(33)))
    for frame in backwards:
        assert frame.time == forwards[frame.number].time
        assert np.array_equal(frame.image, forwards[frame.number].image)
    assert np.array_equal(reader.frame(17), forwards[17].image)
    assert list(reader.backwards(0)) == []


def test_backwards_seeks_instead_of_decoding_all_again(tmp_path, monkeypatch):
    monkeypatch.setattr(video_file, "BLOCK_BYTES", 6 * 64 * 96 * 3 // 2)
    reader = VideoReader(encode(tmp_path / "b.mp4", "libx264", 120, options=B_FRAMES))
    decoded = 0
    plain = video_file.decode

    def counted(container):
        nonlocal decoded
        for frame in plain(container):
            decoded += 1
            yield frame

    monkeypatch.setattr(video_file, "decode", counted)
    assert len(list(reader.backwards(120))) == 120
    assert decoded < 120 + 4 * 120  # once for the times; then from keyframes, twelve apart


def test_backwards_holds_few_frames_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(video_file, "BLOCK_BYTES", 6 * 64 * 96 * 3 // 2)
    reader = VideoReader(encode(tmp_path / "b.mp4", "libx264", 60, options=B_FRAMES))
    most = 0
    plain = video_file.VideoFile._block

    def measured(self, first, stop):
        nonlocal most
        most = max(most, stop - first)
        return plain(self, first, stop)

    monkeypatch.setattr(video_file.VideoFile, "_block", measured)
    assert len(list(reader.backwards(60))) == 60
    assert most <= 6


def test_frames_go_when_they_are_no_longer_held(tmp_path):
    """A reference cycle would keep a long video in memory until Python's collector comes by."""
    reader = VideoReader(encode(tmp_path / "c.mp4", "libx264", 40))
    gc.collect()
    gc.disable()
    try:
        for _ in reader.frames():
            pass
        assert gc.collect() < 40
    finally:
        gc.enable()


def test_counting_decodes_nothing(tmp_path, monkeypatch):
    readers = [
        VideoReader(encode(tmp_path / name, codec, 30))
        for name, codec in (("c.mp4", "libx264"), ("c.webm", "libvpx"), ("c.mkv", "libx264"))
    ]
    monkeypatch.setattr(video_file, "decode", None)
    assert [reader.count for reader in readers] == [30] * 3


def test_counting_decodes_where_packets_tell_no_times(tmp_path, monkeypatch):
    reader = VideoReader(encode(tmp_path / "c.mkv", "libx264", 30))
    plain = video_file.packets

    def untimed(container):
        for packet, shown in plain(container):
            packet.pts = None
            yield packet, shown

    monkeypatch.setattr(video_file, "packets", untimed)
    assert reader.count == 30


def damaged(path, number, target, head=8):
    """The same file with zeros in place of the packet of that number, in decoding order.

    `head` bytes of it stay: a container's own before the data.
    """
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = packets[number]
    content = bytearray(path.read_bytes())
    content[position + head : position + size] = bytes(size - head)
    target.write_bytes(content)
    return target


NO_B_FRAMES = {"g": "12", "bf": "0", "sc_threshold": "0"}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("c.mp4", "libx264", NO_B_FRAMES),
        ("c.webm", "libvpx-vp9", {"g": "12", "lag-in-frames": "0", "cpu-used": "8"}),
    ],
)
def test_a_damaged_frame_is_told_by_its_number_and_keeps_it(tmp_path, name, codec, options):
    whole = encode(tmp_path / name, codec, options=options)
    reader = VideoReader(damaged(whole, 17, tmp_path / f"damaged-{name}"))
    frames = list(reader.frames())
    assert [frame.number for frame in frames] == list(range(40))
    assert 17 in [frame.number for frame in frames if frame.problem]
    assert all((frame.image is None) == bool(frame.problem) for frame in frames)
    assert [frame.number for frame in frames if frame.number < 17 and frame.problem] == []
    assert not any(frame.problem for frame in frames[24:])  # sound again from the next keyframe
    assert [frame.time for frame in frames] == [f.time for f in VideoReader(whole).frames()]
    assert f"frame 17 of video {reader.path}" in frames[17].problem
    with pytest.raises(InputError, match=r"frame 17 .*--skip-bad"):
        list(reader)
    with pytest.raises(InputError, match=r"frame 17 .*--skip-bad"):
        reader.frame(17)
    for frame in reader.frames_backwards(40):
        assert frame.problem == frames[frame.number].problem
        assert np.array_equal(frame.image, frames[frame.number].image)


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["no B-frames", "B-frames"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_what_leans_on_a_damaged_keyframe_is_damaged_until_the_next_one(tmp_path, suffix, options):
    """Decoders give pictures there, of what came before, and say nothing."""
    whole = encode(tmp_path / f"c.{suffix}", "libx264", 48, options=options)
    reader = VideoReader(damaged(whole, 12, tmp_path / f"damaged.{suffix}", head=16))
    frames = list(reader.frames())
    assert [frame.number for frame in frames] == list(range(48))
    told = {frame.number for frame in frames if frame.problem}
    # With B-frames the decoder also drops the one that it had begun.
    assert set(range(12, 24)) <= told <= set(range(11, 24))
    assert "(the keyframe before it is damaged)" in frames[23].problem
    for frame, expected in zip(frames, VideoReader(whole), strict=True):
        assert frame.problem or np.array_equal(frame.image, expected)
    for frame in reader.frames_backwards(40):
        assert frame.problem == frames[frame.number].problem
        assert np.array_equal(frame.image, frames[frame.number].image)


def test_a_file_that_was_cut_off_tells_how_many_frames_are_missing(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", map(moving, range(40)), fps=25)
    assert VideoReader(whole).missing == 0
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    reader = VideoReader(cut)
    frames = list(reader.frames())
    assert reader.missing > 0
    assert reader.count == len(frames) == 40 - reader.missing
    sound = [frame for frame in frames if not frame.problem]
    assert 0 < len(sound) <= reader.count


@pytest.mark.parametrize(("name", "codec"), [("c.webm", "libvpx"), ("c.mkv", "libx264")])
def test_a_webm_or_mkv_that_was_cut_off_tells_by_its_length(tmp_path, name, codec):
    whole = encode(tmp_path / name, codec)
    assert VideoReader(whole).missing == 0
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    reader = VideoReader(cut)
    assert reader.missing > 5
    assert reader.missing == pytest.approx(40 - len(list(reader.frames())), abs=1)


def test_sound_that_goes_on_after_the_last_frame_does_not_look_cut_off(tmp_path):
    path = tmp_path / "c.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", 25), container.add_stream("pcm_s16le", 8000)
        video.height, video.width, video.pix_fmt, audio.layout = 32, 32, "yuv420p", "mono"
        frame = av.VideoFrame.from_ndarray(picture(32, 32), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
        samples.sample_rate = 8000
        container.mux(audio.encode(samples))
    assert VideoReader(path).missing == 0


def test_a_trimmed_mp4_begins_at_its_cut_though_no_keyframe_is_there(tmp_path):
    """As phones trim: the frames from the keyframe on stay in the file, and an edit hides them."""
    whole = encode(tmp_path / "whole.mp4", "libx264", options=NO_B_FRAMES)
    trimmed = tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.pts -= 5 * packet.duration
                packet.dts -= 5 * packet.duration
                target.mux(packet)
    reader = VideoReader(trimmed)
    frames = list(reader.frames())
    assert reader.count == len(frames) == 35
    assert frames[0].time == 0
    for frame, expected in zip(frames, list(VideoReader(whole))[5:], strict=True):
        assert np.array_equal(frame.image, expected)
    for frame in reader.frames_backwards(20):
        assert np.array_equal(frame.image, frames[frame.number].image)


def test_what_vp8_keeps_to_predict_from_is_decoded_and_not_shown(tmp_path):
    whole = encode(tmp_path / "whole.webm", "libvpx", 20)
    with av.open(str(whole)) as container:
        data = [bytes(packet) for packet in container.demux(video=0) if packet.size][7]
    kept = tmp_path / "kept.webm"
    content = whole.read_bytes()
    kept.write_bytes(content.replace(data, bytes([data[0] & ~16]) + data[1:]))
    frames = list(VideoReader(kept))
    expected = [image for number, image in enumerate(VideoReader(whole)) if number != 7]
    assert VideoReader(kept).count == 19
    assert all(np.array_equal(*pair) for pair in zip(frames, expected, strict=True))


def test_a_broadcast_begins_at_its_first_keyframe(tmp_path):
    whole = encode(tmp_path / "whole.ts", "libx264", options=NO_B_FRAMES)
    with av.open(str(whole)) as container:
        position = [p.pos for p in container.demux(video=0) if p.size][5]
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[position:])
    frames = list(VideoReader(cut).frames())
    assert len(frames) == 40 - 12
    assert not any(frame.problem for frame in frames)


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


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["0.png", "1.png", "3.png", "10.png"], "between 1.png and 3.png and in 1 more place"),
        (["f0.png", "f1.png", "f3.png"], "between f1.png and f3.png, though"),
        (["00000.png", "00005.png", "00010.png"], None),  # YouTube-VOS
        (["0.png", "9.png"], None),
        (["0.png"], None),
        (["a.png", "b1.png", "c7.png"], None),
        (["a.png", "b.png", "c.png"], None),
    ],
)
def test_numbers_that_a_folder_leaves_out_are_told(tmp_path, names, told):
    gaps = VideoReader(save_images(tmp_path / "clip", names)).gaps
    assert (told in gaps) if told else gaps is None


def test_a_glob_is_read_in_natural_order(tmp_path):
    folder = save_images(tmp_path / "clip", ["a2.png", "a9.png", "b1.png", "a10.png"])
    (folder / "a9.txt").write_text("not a frame")
    reader = VideoReader(folder / "a*.png")
    assert [int(frame[0, 0, 0]) for frame in reader] == [0, 20, 60]
    assert [reader.name(number) for number in range(3)] == ["a2.png", "a9.png", "a10.png"]
    assert [int(frame[0, 0, 0]) for frame in reader.backwards(2)] == [20, 0]
    refused(folder / "c*.png", folder / "c*.png", "no images")
    refused(folder / "a9.*", "2 images named a9")


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path):
    assert VideoReader(save_images(tmp_path / "clip[1]", ["0.png", "1.png"])).count == 2


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
    refused(folder, folder / "1.png", "frame 1", "is not an image")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:40])
    refused(folder, folder / "1.png")


def test_half_a_jpeg_is_refused_though_opencv_fills_what_it_lacks(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "clip", ["0.jpg", "1.jpg"])
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:-20])
    filled = np.full((24, 40, 3), 128, np.uint8)  # as OpenCV 4.10 does
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: filled.copy())
    refused(folder, folder / "1.jpg", "frame 1", "cannot be read", "replace the file, or skip")


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
