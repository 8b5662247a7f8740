"""Videos are written whole, with the times of their frames; transparent ones too."""

from fractions import Fraction

import av
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.video.reader import VideoReader
from qmra_jax.video.writer import VP9_ALPHA, Encoding, VideoWriter, check_encoder
from tests.support.videos import BOTTOM, CLOSE, assert_close, picture, read_rgba, write_video


def write(path, images, times, durations, **options):
    options = {"rate": Fraction(10), "time_base": Fraction(1, 1000), **options}
    with VideoWriter(path, **options) as writer:
        for frame in zip(images, times, durations, strict=True):
            writer.write(*frame)
    return path


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


@pytest.mark.parametrize(
    ("images", "named"),
    [
        ([picture(32, 32), picture(32, 34)], "frame 1 .* is 34x32"),
        ([picture(32, 32).astype(np.float32)], "float32"),
        ([picture(32, 32)[..., 0]], "ndim"),
    ],
)
def test_a_failed_write_keeps_the_existing_file(tmp_path, images, named):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the old one")
    with pytest.raises(ValueError, match=named):
        write_video(path, images, 25)
    write_video(path, [], 25)
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_frames_keep_their_times_and_the_video_its_duration(tmp_path):
    times = [Fraction(n, 30) for n in (0, 1, 4, 5, 15, 16)]
    durations = [b - a for a, b in zip(times, [*times[1:], Fraction(1)], strict=True)]
    images, aspect = [picture(32, 32)] * 6, Fraction(4, 3)
    options = {"rate": Fraction(6), "time_base": Fraction(1, 15360), "pixel_aspect": aspect}
    path = write(tmp_path / "uneven.mp4", images, times, durations, **options)
    reader = VideoReader(path)
    frames = list(reader.frames())
    assert [frame.time for frame in frames] == times
    assert frames[-1].duration == durations[-1]
    assert reader.pixel_aspect == aspect
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(1e6, abs=2)  # microseconds


def test_times_that_do_not_increase_are_moved_by_a_tick(tmp_path):
    times = [Fraction(n, 20) for n in (0, 2, 2, 1, 4)]
    path = write(tmp_path / "c.mp4", [picture(32, 32)] * 5, times, [Fraction(1, 10)] * 5)
    ticks = [frame.time * 1000 for frame in VideoReader(path).frames()]
    assert ticks == [0, 100, 101, 102, 200]


def test_a_webm_is_transparent_and_may_have_an_odd_size(tmp_path):
    image = np.dstack([picture(45, 67), np.zeros((45, 67), np.uint8)])
    image[10:30, 10:40, 3] = 255
    tick = Fraction(1, 10)
    times = [number * tick for number in range(3)]
    path = write(tmp_path / "c.webm", [image] * 3, times, [tick] * 3, encoding=VP9_ALPHA)
    frames = read_rgba(path)
    assert [frame.shape for frame in frames] == [(45, 67, 4)] * 3
    assert np.abs(frames[2][..., 3].astype(int) - image[..., 3]).mean() < 4
    inside = frames[2][14:20, 14:28, :3].astype(int)
    assert np.abs(inside - image[14:20, 14:28, :3]).max() <= 2 * CLOSE


@pytest.mark.parametrize("codec", ["libx264", "no-such-codec"])
def test_an_encoder_that_is_not_installed_is_refused(codec):
    with pytest.raises(InputError, match=f"{codec} .*yuva420p"):
        check_encoder(Encoding(codec, "mp4", "rgba", "yuva420p", {}, {}, True))
