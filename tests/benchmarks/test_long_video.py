"""The long-video benchmark makes its video and measures memory and compilation along it."""

import numpy as np
import pytest

from benchmarks import long_video
from qmra_jax.segmentation.prompt_parsing import parse_box
from qmra_jax.video.reader import VideoReader
from qmra_jax.weights.safetensors_model import save
from tests.support.tiny import TINY

SIZE = (96, 128)


@pytest.fixture
def tiny_weights(tiny_variables, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save(path, tiny_variables, TINY)
    return path


def test_the_made_video_has_the_disc_in_the_box(tmp_path):
    path = tmp_path / "made.mp4"
    long_video.write_video(path, long_video.made_frames(SIZE), 5, fps=5)
    video = VideoReader(path)
    assert (video.count, video.size, video.fps) == (5, SIZE, 5)
    (x, y, width, height), _ = parse_box(long_video.made_box(SIZE))
    yellow = video.frame(0)[..., 0] > 180
    rows, columns = np.flatnonzero(yellow.any(axis=1)), np.flatnonzero(yellow.any(axis=0))
    assert abs(rows[[0, -1]] - [y, y + height]).max() <= 2
    assert abs(columns[[0, -1]] - [x, x + width]).max() <= 2


def test_a_real_video_runs_forwards_and_backwards(tmp_path):
    path = tmp_path / "source.mp4"
    grey = (np.full((*SIZE, 3), 60 * k, np.uint8) for k in range(4))
    long_video.write_video(path, grey, 4, fps=5)
    frames = long_video.looped_frames(VideoReader(path), (48, 64))
    shown = [next(frames) for _ in range(9)]
    assert shown[0].shape == (48, 64, 3)
    assert [round(frame.mean() / 60) for frame in shown] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert long_video.scaled_box("10,20,30,40", SIZE, (48, 64)) == "5,10,15,20"


def test_memory_and_programs_are_measured_with_and_without_a_bound(tmp_path, tiny_weights):
    path = tmp_path / "made.mp4"
    long_video.write_video(path, long_video.made_frames(SIZE), 44, fps=5)
    courses = {
        bound: long_video.follow(
            path, long_video.made_box(SIZE), tmp_path / f"{bound}", bound, 32, tiny_weights
        )
        for bound in (3, 0)
    }
    for course in courses.values():
        assert len(course.resident) == len(course.programs) == 44
        assert min(course.resident) > 10e6
    # Without a bound the memory of 4 grows for the third extra frame, 30, and with it compiles.
    assert courses[3].programs[-1] == courses[3].programs[5]
    assert courses[0].programs[-1] > courses[0].programs[25] == courses[0].programs[5]
    rows = long_video.table(courses).rows
    assert [row[0] for row in rows] == [3, "none"]
