"""Segmenting a video: order of frames, bounded memory, damaged input, refused requests."""

import dataclasses
import re
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.inference.propagator import FrameResult
from qmra_jax.masks import read_labels
from qmra_jax.segmentation.outputs import WRITERS, Output
from qmra_jax.segmentation.prompt_parsing import read_objects
from qmra_jax.segmentation.segment_video import check_request, score, segment_video
from qmra_jax.video import container
from qmra_jax.video.reader import VideoReader
from qmra_jax.video.writer import VideoWriter
from tests.support.videos import write_video

SIZE = (32, 48)


class Echo:
    """A fake propagator: the mask of frame n, known by its brightness, has n + 1 columns."""

    def __init__(self):
        self.seen = []

    def start(self, frame, boxes, *, ids):
        self.ids = tuple(ids)
        return self.step(frame)

    def step(self, frame, boxes=None, *, ids=()):
        self.ids += tuple(ids)
        number = round(float(frame.mean()) / 5)
        self.seen.append(number)
        labels = np.zeros(frame.shape[:2], np.uint8)
        labels[:, : number + 1] = self.ids[0]
        boxes = np.full((len(self.ids), 4), number + 1, np.int32)
        probabilities = np.full((len(self.ids) + 1, *labels.shape), 0.5, np.float32)
        return FrameResult(labels, boxes, 0.1, probabilities, self.ids)


def images(count):
    return [np.full((*SIZE, 3), 5 * number, np.uint8) for number in range(count)]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    for number, image in enumerate(images(12)):
        Image.fromarray(image).save(path / f"{number}.png")
    return path


def run(video, output, frame=0, kinds=("masks",), boxes=("1,1,4,4",), **options):
    """(summary, propagator)."""
    reader, propagator = VideoReader(video), Echo()
    objects = read_objects(reader.size, boxes, frame=frame)
    arguments = (reader, objects, propagator, Output(output), kinds)
    return segment_video(*arguments, progress=False, **options), propagator


def widths(output):
    """Number of columns in each mask."""
    return [int(read_labels(path)[0].astype(bool).sum()) for path in sorted(output.iterdir())]


def test_frames_before_the_box_are_segmented_backwards_and_written_in_order(
    tmp_path, folder, monkeypatch
):
    written = []

    class Log(WRITERS["boxes"]):
        def write(self, frame, objects):
            columns = int(objects.labels[0].astype(bool).sum())
            written.append((frame.number, int(frame.image[0, 0, 0]) // 5, columns))
            super().write(frame, objects)

    monkeypatch.setitem(WRITERS, "boxes", Log)
    for kinds in (("boxes",), ("boxes", "masks")):
        written.clear()
        output = tmp_path / "-".join(kinds)
        done, propagator = run(folder, output, 4, kinds)
        assert propagator.seen == [4, 3, 2, 1, 0, 4, 5, 6, 7, 8, 9, 10, 11]
        assert written == [(number, number, number + 1) for number in range(12)]
        assert sorted(done.boxes) == list(range(12))
        assert sorted(p.name for p in output.iterdir()) == sorted(WRITERS[k].name for k in kinds)
    assert widths(tmp_path / "boxes-masks" / "masks") == list(range(1, 13))


def test_videos_keep_the_frame_times_of_the_source(tmp_path):
    times = [Fraction(n, 30) for n in (0, 1, 2, 10, 11, 30)]
    options = {"rate": Fraction(6), "time_base": Fraction(1, 15360)}
    with VideoWriter(tmp_path / "v.mp4", **options) as writer:
        for image, time in zip(images(6), times, strict=True):
            writer.write(image, time, Fraction(1, 3))
    run(tmp_path / "v.mp4", tmp_path / "out", 2, ("overlay", "cutout-webm"))
    source = list(VideoReader(tmp_path / "v.mp4").frames())
    shown = list(VideoReader(tmp_path / "out" / "overlay.mp4").frames())
    assert [frame.time for frame in source] == times
    assert [frame.time for frame in shown] == times
    assert shown[-1].duration == source[-1].duration
    clear = list(VideoReader(tmp_path / "out" / "cutout.webm").frames())
    assert [round(frame.time * 1000) for frame in clear] == [round(t * 1000) for t in times]


def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch):
    """A video twice as long has no more frames in memory at a time, forwards and backwards."""
    monkeypatch.setattr(container, "BLOCK_BYTES", 6 * SIZE[0] * SIZE[1] * 3 // 2)
    lock, most = threading.Lock(), {}

    class Counted(np.ndarray):
        alive = 0

        def __del__(self):
            with lock:
                Counted.alive -= 1

    plain = VideoReader._convert

    def converted(self, number, decoded):
        frame = plain(self, number, decoded)
        image = frame.image.copy().view(Counted)
        with lock:
            Counted.alive += 1
            most[self.path.stem] = max(most.get(self.path.stem, 0), Counted.alive)
        return frame._replace(image=image)

    monkeypatch.setattr(VideoReader, "_convert", converted)
    for count in (60, 120):
        path = tmp_path / f"{count}.mp4"
        write_video(path, (np.full((*SIZE, 3), 40, np.uint8) for _ in range(count)), 25)
        run(path, tmp_path / f"out{count}", count // 2, ("masks", "overlay"))
    assert most["120"] <= most["60"] + 4
    assert most["120"] < 20


def damage(folder, *numbers):
    for number in numbers:
        (folder / f"{number}.png").write_bytes(b"torn")


def test_skipped_frames_get_the_previous_mask_and_are_not_propagated(tmp_path, folder):
    damage(folder, 1, 6, 7)
    done, propagator = run(folder, tmp_path / "out", 4, ("masks", "mot", "coco"), skip_bad=True)
    assert done.skipped == (1, 6, 7)
    assert "3 frames" in done.damage()
    assert "1, 6, 7" in done.damage()
    assert propagator.seen == [4, 3, 2, 0, 4, 5, 8, 9, 10, 11]
    # Backwards, the previous mask is the next frame's.
    assert widths(tmp_path / "out" / "masks") == [1, 3, 3, 4, 5, 6, 6, 6, 9, 10, 11, 12]
    assert len((tmp_path / "out" / "mot.txt").read_text().splitlines()) == 12


@pytest.mark.parametrize(("bad", "kept"), [(2, [4]), (7, [1, 2, 3, 4, 5, 6, 7])])
def test_a_damaged_frame_is_named_and_earlier_results_are_kept(tmp_path, folder, bad, kept):
    damage(folder, bad)
    with pytest.raises(InputError, match=rf"frame {bad}, image .*{bad}\.png.* in .*out"):
        run(folder, tmp_path / "out", 4, ("masks", "overlay", "coco"))
    assert widths(tmp_path / "out" / "masks") == kept
    in_order = bad > 4  # the overlay starts once all frames before the box are segmented
    assert (tmp_path / "out" / "overlay.mp4").exists() == in_order
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []


def test_a_frame_of_another_size_ends_the_run_and_earlier_results_are_kept(tmp_path, folder):
    reader = VideoReader(folder)
    Image.fromarray(np.zeros((32, 50, 3), np.uint8)).save(folder / "5.png")
    objects = read_objects(reader.size, ["1,1,4,4"])
    with pytest.raises(InputError, match=r"5\.png is 50x32"):
        segment_video(reader, objects, Echo(), Output(tmp_path / "out"), progress=False)
    assert widths(tmp_path / "out" / "masks") == [1, 2, 3, 4, 5]
    assert VideoReader(tmp_path / "out" / "overlay.mp4").count == 5


def test_any_other_error_leaves_no_partial_files(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(Echo, "step", lambda self, frame, boxes=None, ids=(): 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(folder, tmp_path / "out", 4, tuple(WRITERS))
    assert all(path.is_dir() for path in (tmp_path / "out").iterdir())


def check(video, output, *arguments, boxes=("1,1,4,4",), **options):
    reader = VideoReader(video)
    objects = read_objects(reader.size, boxes)
    check_request(reader, objects, Output(output), *arguments, **{"overwrite": False, **options})


def test_an_unreadable_prompt_frame_and_an_unknown_kind_are_refused(tmp_path, folder):
    damage(folder, 6)
    for boxes in (["1,1,4,4@6"], ["1,1,4,4", "1,1,4,4@6"]):
        with pytest.raises(InputError, match="frame 6"):
            check(folder, tmp_path / "out", boxes=boxes, skip_bad=True)
    with pytest.raises(InputError, match="sketch"):
        check(folder, tmp_path / "out", ["sketch"])


def test_a_truncated_video_is_refused_or_segmented_as_far_as_it_goes(tmp_path):
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(30))
    whole = write_video(tmp_path / "whole.mp4", noise, 25).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.mp4 .*--skip-bad"):
        check(tmp_path / "cut.mp4", tmp_path / "out")
    check(tmp_path / "cut.mp4", tmp_path / "out", skip_bad=True)
    done, _ = run(tmp_path / "cut.mp4", tmp_path / "out", skip_bad=True)
    assert 0 < done.frames < 30
    assert f"{done.missing} frames missing" in done.damage()
    one = dataclasses.replace(done, skipped=(3,), missing=1)
    assert re.match("1 frame .*: 3; 1 frame missing", one.damage())


@pytest.mark.parametrize("kind", WRITERS)
def test_an_output_that_would_replace_the_input_is_refused(tmp_path, kind):
    name = WRITERS[kind].name
    target = tmp_path / name
    if "." in name:
        write_video(target, images(2), 25)
        source = target  # a video whatever its name
    else:
        target.mkdir()
        for number, image in enumerate(images(2)):
            Image.fromarray(image).save(target / f"{number}.png")
        source = target / "*.png"
    with pytest.raises(InputError, match="own result"):
        check(source, tmp_path, overwrite=True)


def test_a_score_is_the_mean_probability_over_the_mask():
    labels = np.zeros((4, 4), np.uint8)
    labels[0], labels[1, :2] = 3, 7
    probabilities = np.zeros((4, 4, 4), np.float32)
    probabilities[1, 0] = [0.5, 0.7, 0.9, 0.9]
    probabilities[2, 1, :2] = 0.6
    probabilities[2, 3] = 0.1  # outside the mask
    result = FrameResult(labels, np.zeros((3, 4), np.int32), None, probabilities, (3, 7, 9))
    assert score(result) == pytest.approx((0.75, 0.6, 0))
    assert score(FrameResult(labels, np.zeros((0, 4), np.int32), None)) == ()
