"""Reading frames as they are displayed, forwards and backwards, from intact and damaged sources."""

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
from tests.support.videos import assert_close, picture, write_video

NO_B_FRAMES = {"g": "12", "bf": "0", "sc_threshold": "0"}
B_FRAMES = {**NO_B_FRAMES, "bf": "3", "b_strategy": "0"}
OPEN_GOP = {**B_FRAMES, "x264-params": "open-gop=1"}
VP9 = {"g": "12", "lag-in-frames": "8", "cpu-used": "8"}
UNEVEN = [4 * n + n % 2 + 30 * (n > 20) for n in range(40)]
SIZE = HEIGHT, WIDTH = 64, 96
FRAME_BYTES = HEIGHT * WIDTH * 3 // 2  # of yuv420p


def moving(number):
    """An image that differs from that of any other number, even after encoding."""
    image = np.full((*SIZE, 3), 40, np.uint8)
    image[:, (5 * number) % WIDTH : (5 * number) % WIDTH + 8] = 90 + number * 7 % 160
    image[: HEIGHT // 2, ::7] = 20 + number * 3 % 200
    return image


def encode(path, codec="libx264", count=40, *, draw=moving, times=None, aspect=None, options=None):
    """A video of the images `draw(n)`, at 25 frames per second or `times` in 1/100 s."""
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        (stream.height, stream.width), stream.pix_fmt = SIZE, pixels
        stream.codec_context.time_base = Fraction(1, 100)
        if aspect:
            stream.sample_aspect_ratio = aspect
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts = times[number] if times else 4 * number
            frame.time_base = Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turned(path, target, a, b, c, d):
    """The same mp4 with the display matrix x' = ax + cy, y' = bx + dy."""
    as_stored = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content = path.read_bytes()
    at = content.index(as_stored, content.index(b"tkhd"))
    target.write_bytes(content[:at] + turned + content[at + len(turned) :])
    return target


def damaged(path, number, target, head=8):
    """The same file with the packet of this number, in decoding order, zeroed after `head` bytes.

    The head holds the container's own bytes.
    """
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = packets[number]
    content = bytearray(path.read_bytes())
    content[position + head : position + size] = bytes(size - head)
    target.write_bytes(content)
    return target


def assert_backwards_equals(reader, frames, stop):
    backwards = list(reader.frames_backwards(stop))
    assert [frame.number for frame in backwards] == list(reversed(range(stop)))
    for frame in backwards:
        expected = frames[frame.number]
        assert (frame.time, frame.problem) == (expected.time, expected.problem)
        assert np.array_equal(frame.image, expected.image)


def test_a_written_video_reads_back_and_can_be_read_again(tmp_path):
    frames = [picture(*SIZE, shade) for shade in (0, 30, 60, 90, 120)]
    reader = VideoReader(write_video(tmp_path / "clip.mp4", iter(frames), fps=30000 / 1001))
    assert (reader.size, reader.count) == (SIZE, 5)
    assert reader.fps == pytest.approx(30000 / 1001)
    for image, again, expected in zip(reader, reader, frames, strict=True):
        assert_close(image, expected)
        assert np.array_equal(image, again)
    assert_close(reader.frame(3), frames[3])


@pytest.mark.parametrize(
    ("matrix", "displayed"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),  # a mirrored selfie
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_a_phones_rotation_is_applied(tmp_path, matrix, displayed):
    stored = write_video(tmp_path / "stored.mp4", [picture(*SIZE)] * 2, fps=25)
    reader = VideoReader(turned(stored, tmp_path / "turned.mp4", *matrix))
    expected = displayed(picture(*SIZE))
    assert reader.size == expected.shape[:2]
    image = reader.frame(1)
    assert_close(image, expected)
    assert image.flags.c_contiguous
    assert np.array_equal(next(reader.backwards(2)), image)


def test_the_pixel_aspect_is_that_of_the_displayed_frame(tmp_path):
    path = encode(tmp_path / "wide.mp4", count=1, aspect=Fraction(4, 3))
    assert VideoReader(path).pixel_aspect == Fraction(4, 3)
    on_its_side = turned(path, tmp_path / "turned.mp4", 0, 1, -1, 0)
    assert VideoReader(on_its_side).pixel_aspect == Fraction(3, 4)


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mp4", "libx264"), ("c.webm", "libvpx"), ("c.gif", "gif")]
)
def test_a_variable_frame_rate_keeps_every_frame(tmp_path, name, codec):
    times = [10 * n + n % 2 * 6 for n in range(20)]

    def draw(number):
        return picture(*SIZE, 5 * number)

    reader = VideoReader(encode(tmp_path / name, codec, 20, draw=draw, times=times))
    frames = list(reader.frames())
    assert len(frames) == reader.count == 20
    assert [round(100 * frame.time) for frame in frames] == times
    means = [frame.image.mean() for frame in frames]
    assert means[19] > means[0] + 60
    if codec != "libvpx":  # whose header states the rate of the encoder
        assert reader.fps == pytest.approx(10, rel=0.1)
        assert frames[0].duration == Fraction(16, 100)


@pytest.mark.parametrize(
    ("name", "codec", "settings"),
    [
        ("b.mp4", "libx264", {"options": B_FRAMES}),
        ("b.mkv", "libx264", {"options": OPEN_GOP, "times": UNEVEN}),
        ("b.ts", "libx264", {"options": B_FRAMES}),
        ("one_keyframe.mp4", "libx264", {"options": {"g": "250"}, "times": UNEVEN}),
        ("b.avi", "mpeg4", {"options": {"bf": "2", "g": "9"}}),
        ("c.webm", "libvpx-vp9", {"options": VP9}),
        ("c.gif", "gif", {}),
    ],
)
def test_backwards_gives_the_same_frames_as_forwards(tmp_path, monkeypatch, name, codec, settings):
    monkeypatch.setattr(video_file, "BLOCK_BYTES", 7 * FRAME_BYTES)
    reader = VideoReader(encode(tmp_path / name, codec, **settings))
    frames = list(reader.frames())
    assert reader.count == len(frames) == 40
    assert_backwards_equals(reader, frames, 33)
    assert np.array_equal(reader.frame(17), frames[17].image)
    assert list(reader.backwards(0)) == []


def test_backwards_seeks_to_keyframes_and_holds_few_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(video_file, "BLOCK_BYTES", 6 * FRAME_BYTES)
    reader = VideoReader(encode(tmp_path / "b.mp4", count=120, options=B_FRAMES))
    decode, block = video_file.decode, video_file.VideoFile._block
    decoded, sizes = [], []

    def counted(container):
        for frame in decode(container):
            decoded.append(frame.pts)
            yield frame

    def measured(self, first, stop):
        sizes.append(stop - first)
        return block(self, first, stop)

    monkeypatch.setattr(video_file, "decode", counted)
    monkeypatch.setattr(video_file.VideoFile, "_block", measured)
    assert len(list(reader.backwards(120))) == 120
    assert len(decoded) < 120 + 4 * 120  # once for the times; then from keyframes, twelve apart
    assert max(sizes) <= 6


def test_frames_are_freed_without_garbage_collection(tmp_path):
    reader = VideoReader(encode(tmp_path / "c.mp4"))
    gc.collect()
    gc.disable()
    try:
        for _ in reader.frames():
            pass
        assert gc.collect() < 40
    finally:
        gc.enable()


def test_counting_decodes_only_if_packets_have_no_times(tmp_path, monkeypatch):
    names = (("c.mp4", "libx264"), ("c.webm", "libvpx"), ("c.mkv", "libx264"))
    readers = [VideoReader(encode(tmp_path / name, codec, 30)) for name, codec in names]
    decode, packets = video_file.decode, video_file.packets
    monkeypatch.setattr(video_file, "decode", None)
    assert [reader.count for reader in readers] == [30] * 3

    def untimed(container):
        for packet, shown in packets(container):
            packet.pts = None
            yield packet, shown

    monkeypatch.setattr(video_file, "decode", decode)
    monkeypatch.setattr(video_file, "packets", untimed)
    assert VideoReader(tmp_path / "c.mkv").count == 30


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("c.mp4", "libx264", NO_B_FRAMES),
        ("c.webm", "libvpx-vp9", {**VP9, "lag-in-frames": "0"}),
    ],
)
def test_a_damaged_frame_is_reported_and_keeps_its_number(tmp_path, name, codec, options):
    whole = encode(tmp_path / name, codec, options=options)
    reader = VideoReader(damaged(whole, 17, tmp_path / f"damaged-{name}"))
    frames = list(reader.frames())
    assert [frame.number for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == [f.time for f in VideoReader(whole).frames()]
    assert f"frame 17 of video {reader.path}" in frames[17].problem
    assert all((frame.image is None) == bool(frame.problem) for frame in frames)
    assert not any(frame.problem for frame in (*frames[:17], *frames[24:]))  # up to a keyframe
    with pytest.raises(InputError, match=r"frame 17 .*--skip-bad"):
        list(reader)
    with pytest.raises(InputError, match=r"frame 17 .*--skip-bad"):
        reader.frame(17)
    assert_backwards_equals(reader, frames, 40)


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["no B-frames", "B-frames"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_after_a_damaged_keyframe_all_frames_are_damaged_until_the_next(tmp_path, suffix, options):
    """Decoders continue there from earlier pictures and report no error."""
    whole = encode(tmp_path / f"c.{suffix}", count=48, options=options)
    reader = VideoReader(damaged(whole, 12, tmp_path / f"damaged.{suffix}", head=16))
    frames = list(reader.frames())
    assert [frame.number for frame in frames] == list(range(48))
    problems = {frame.number for frame in frames if frame.problem}
    # With B-frames the decoder also drops the one before.
    assert set(range(12, 24)) <= problems <= set(range(11, 24))
    for frame, expected in zip(frames, VideoReader(whole), strict=True):
        assert frame.problem or np.array_equal(frame.image, expected)
    assert_backwards_equals(reader, frames, 40)


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mp4", "libx264"), ("c.webm", "libvpx"), ("c.mkv", "libx264")]
)
def test_a_truncated_file_states_how_many_frames_are_missing(tmp_path, name, codec):
    if name == "c.mp4":
        whole = write_video(tmp_path / name, map(moving, range(40)), fps=25)  # with its index first
    else:
        whole = encode(tmp_path / name, codec)
    assert VideoReader(whole).missing == 0
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    reader = VideoReader(cut)
    frames = list(reader.frames())
    assert any(not frame.problem for frame in frames)
    assert reader.missing > 0
    if name == "c.mp4":
        assert reader.count == len(frames) == 40 - reader.missing
    else:  # estimated
        assert reader.missing == pytest.approx(40 - len(frames), abs=1)


def test_audio_that_outlasts_the_video_does_not_look_truncated(tmp_path):
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


def test_a_trimmed_mp4_starts_at_its_edit_list(tmp_path):
    """As phones trim: frames from the keyframe on stay in the file, and an edit list hides them."""
    whole = encode(tmp_path / "whole.mp4", options=NO_B_FRAMES)
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
    assert_backwards_equals(reader, frames, 20)


def test_invisible_vp8_frames_are_decoded_but_not_shown(tmp_path):
    whole = encode(tmp_path / "whole.webm", "libvpx", 20)
    with av.open(str(whole)) as container:
        data = [bytes(packet) for packet in container.demux(video=0) if packet.size][7]
    hidden = tmp_path / "hidden.webm"
    hidden.write_bytes(whole.read_bytes().replace(data, bytes([data[0] & ~16]) + data[1:]))
    expected = [image for number, image in enumerate(VideoReader(whole)) if number != 7]
    assert VideoReader(hidden).count == 19
    assert all(np.array_equal(*pair) for pair in zip(VideoReader(hidden), expected, strict=True))


def test_a_broadcast_starts_at_its_first_keyframe(tmp_path):
    whole = encode(tmp_path / "whole.ts", options=NO_B_FRAMES)
    with av.open(str(whole)) as container:
        position = [p.pos for p in container.demux(video=0) if p.size][5]
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[position:])
    frames = list(VideoReader(cut).frames())
    assert len(frames) == 40 - 12
    assert not any(frame.problem for frame in frames)


def save_images(folder, names):
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(np.full((24, 40, 3), number * 20, np.uint8)).save(folder / name)
    return folder


def shades(images):
    return [int(image[0, 0, 0]) for image in images]


def test_a_folder_is_read_in_natural_order(tmp_path):
    folder = save_images(tmp_path / "clip[1]", ["0.png", "1.PNG", "9.png", "10.png", "100.png"])
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._1.png").write_bytes(b"written by macOS")
    reader = VideoReader(folder)  # not a glob, though its name looks like one
    assert (reader.count, reader.size, reader.fps) == (5, (24, 40), FOLDER_FPS)
    assert shades(reader) == [0, 20, 40, 60, 80]
    assert reader.frame(3)[0, 0, 0] == 60


def test_a_glob_is_read_in_natural_order(tmp_path):
    folder = save_images(tmp_path / "clip", ["a2.png", "a9.png", "b1.png", "a10.png"])
    reader = VideoReader(folder / "a*.png")
    assert shades(reader) == [0, 20, 60]
    assert [reader.name(number) for number in range(3)] == ["a2.png", "a9.png", "a10.png"]
    assert shades(reader.backwards(2)) == [20, 0]


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (["0.png", "1.png", "3.png", "10.png"], "between 1.png and 3.png and in 1 more place"),
        (["f0.png", "f1.png", "f3.png"], "between f1.png and f3.png; "),
        (["00000.png", "00005.png", "00010.png"], None),  # YouTube-VOS
        (["0.png", "9.png"], None),
        (["0.png"], None),
        (["a.png", "b1.png", "c7.png"], None),
        (["a.png", "b.png", "c.png"], None),
    ],
)
def test_gaps_in_the_numbering_are_reported(tmp_path, names, gap):
    gaps = VideoReader(save_images(tmp_path / "clip", names)).gaps
    assert (gap in gaps) if gap else gaps is None


def test_images_of_every_mode_become_rgb_and_exif_rotation_is_applied(tmp_path):
    red = np.full((16, 16, 3), (200, 10, 20), np.uint8)
    Image.fromarray(red).save(tmp_path / "0.png")
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(red).quantize(4).save(tmp_path / "2.png")
    Image.fromarray(np.dstack([red, np.full((16, 16), 255, np.uint8)])).save(tmp_path / "3.png")
    colours = [tuple(map(int, frame[8, 8])) for frame in VideoReader(tmp_path / "*.png")]
    assert colours == [(200, 10, 20), (90, 90, 90), (200, 10, 20), (200, 10, 20)]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(picture(*SIZE)).save(tmp_path / "0.jpg", exif=exif, quality=95)
    reader = VideoReader(tmp_path / "*.jpg")
    assert reader.size == (WIDTH, HEIGHT)
    assert_close(reader.frame(0), np.rot90(picture(*SIZE), -1), border=12)


def assert_refused(path, *words):
    with pytest.raises(InputError) as caught:
        list(VideoReader(path))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in map(str, words) if word not in message] == []


def test_a_path_without_frames_is_refused(tmp_path):
    assert_refused(tmp_path / "absent.mp4", tmp_path / "absent.mp4", "not found")
    text, hollow, sound = tmp_path / "text.mp4", tmp_path / "hollow.avi", tmp_path / "sound.wav"
    text.write_text("no video")
    assert_refused(text, text, "cannot be opened", "Invalid data")
    with av.open(str(hollow), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    assert_refused(hollow, hollow, "no frames")
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    assert_refused(sound, sound, "no video stream")
    empty = save_images(tmp_path / "empty", [])
    assert_refused(empty, empty, "no images", ".jpg")
    assert_refused(empty / "c*.png", empty / "c*.png", "no images")


def test_bad_images_are_refused_by_name(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "clip", ["0.png", "1.png"])
    Image.fromarray(np.zeros((24, 41, 3), np.uint8)).save(folder / "2.png")
    assert_refused(folder, folder / "2.png", "41x24", "40x24")
    (folder / "2.png").write_bytes(b"")
    assert_refused(folder, folder / "2.png", "frame 2")
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes()[:40])
    assert_refused(folder, folder / "2.png")
    pairs = save_images(tmp_path / "pairs", ["00000.jpg", "00000.png", "00001.jpg"])
    assert_refused(pairs, "2 images named 00000")
    half = save_images(tmp_path / "half", ["0.jpg", "1.jpg"])
    (half / "1.jpg").write_bytes((half / "1.jpg").read_bytes()[:-20])
    filled = np.full((24, 40, 3), 128, np.uint8)  # as OpenCV 4.10 decodes it
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: filled.copy())
    assert_refused(half, half / "1.jpg", "frame 1", "--skip-bad")


@pytest.mark.parametrize("index", [-1, 2])
def test_a_frame_that_does_not_exist_is_refused(tmp_path, index):
    clip = write_video(tmp_path / "clip.mp4", [picture(32, 32)] * 2, fps=25)
    folder = save_images(tmp_path / "clip", ["0.png", "1.png"])
    for path in (clip, folder):
        with pytest.raises(InputError, match=f"frame {index} .*2 frames, 0 to 1"):
            VideoReader(path).frame(index)
