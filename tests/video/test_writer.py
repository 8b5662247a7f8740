"""Videos are written whole, with the times of their frames; transparent ones too."""

from fractions import Fraction

import av
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.video import writer as video_writer
from qmra_jax.video.reader import VideoReader
from qmra_jax.video.writer import VP9_ALPHA, VideoWriter, write_video
from tests.support.videos import BOTTOM, CLOSE, assert_close, picture, read_rgba


def test_odd_sizes_grow_by_a_repeated_row_and_column(tmp_path):
    frame = picture(45, 67)
    path = write_video(tmp_path / "odd.mp4", [frame] * 3, fps=25)
    reader = VideoReader(path)
    assert reader.size == (46, 68)
    image = reader.frame(0)
    assert_close(image[:45, :67], frame)
    assert np.abs(image[45, :30].astype(int) - np.array(BOTTOM) // 2).max() <= CLOSE
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_writing_fails_without_touching_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the old one")
    for frames, fps, message in [
        ([], 25, "no frames"),
        ([picture(32, 32), picture(32, 34)], 25, "frame 1 .* is 34x32"),
        ([picture(32, 32).astype(np.float32)], 25, "float32"),
        ([picture(32, 32)[..., 0]], 25, "ndim"),
        ([picture(32, 32)], 0, "fps 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_video(path, frames, fps)
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_every_frame_keeps_its_time_and_the_video_its_length(tmp_path):
    times = [Fraction(n, 30) for n in (0, 1, 4, 5, 15, 16)]
    durations = [b - a for a, b in zip(times, [*times[1:], Fraction(1)], strict=True)]
    path = tmp_path / "uneven.mp4"
    writer = VideoWriter(path, rate=Fraction(6), time_base=Fraction(1, 15360))
    for time, duration in zip(times, durations, strict=True):
        writer.write(picture(32, 32), time, duration)
    writer.close()
    frames = list(VideoReader(path).frames())
    assert [frame.time for frame in frames] == times
    assert frames[-1].duration == durations[-1]
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(1e6, abs=2)  # microseconds


def test_times_that_do_not_rise_are_moved_on_by_a_tick(tmp_path):
    path = tmp_path / "stuck.mp4"
    writer = VideoWriter(path, rate=Fraction(10), time_base=Fraction(1, 1000))
    for time in (0, Fraction(1, 10), Fraction(1, 10), Fraction(1, 20), Fraction(2, 10)):
        writer.write(picture(32, 32), time, Fraction(1, 10))
    writer.close()
    ticks = [frame.time * 1000 for frame in VideoReader(path).frames()]
    assert ticks == [0, 100, 101, 102, 200]


def test_pixels_that_are_not_square_stay_so(tmp_path):
    path = tmp_path / "wide.mp4"
    aspect = Fraction(4, 3)
    writer = VideoWriter(path, rate=25, time_base=Fraction(1, 25), pixel_aspect=aspect)
    writer.write(picture(32, 32), Fraction(0), Fraction(1, 25))
    writer.close()
    assert VideoReader(path).pixel_aspect == aspect


def test_a_webm_is_transparent_and_may_have_an_odd_size(tmp_path):
    image = np.dstack([picture(45, 67), np.zeros((45, 67), np.uint8)])
    image[10:30, 10:40, 3] = 255
    path = tmp_path / "clear.webm"
    tick = Fraction(1, 10)
    writer = VideoWriter(path, rate=Fraction(10), time_base=tick, encoding=VP9_ALPHA)
    for number in range(3):
        writer.write(image, number * tick, tick)
    writer.close()
    frames = read_rgba(path)
    assert len(frames) == 3
    assert all(frame.shape == (45, 67, 4) for frame in frames)
    assert np.abs(frames[2][..., 3].astype(int) - image[..., 3]).mean() < 4
    inside = frames[2][14:20, 14:28, :3].astype(int)
    assert np.abs(inside - image[14:20, 14:28, :3]).max() <= 2 * CLOSE


def test_an_encoder_that_is_not_there_is_refused(monkeypatch):
    encoding = video_writer.Encoding("libx264", "mp4", "rgba", "yuva420p", {}, {}, True)
    with pytest.raises(InputError, match=r"libx264 .*yuva420p"):
        video_writer.check_encoder(encoding)
    absent = video_writer.Encoding("no-such-codec", "mp4", "rgba", "yuva420p", {}, {}, True)
    with pytest.raises(InputError, match="no-such-codec"):
        video_writer.check_encoder(absent)
