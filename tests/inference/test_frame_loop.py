"""The loop over frames: where objects enter, what of frames that cannot be read, both ways."""

import itertools
import threading

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.inference.frame_loop import NumberedFrame, follow, propagate_video


class Log:
    """Stands for the propagator: notes its calls, and answers with how many there were."""

    def __init__(self):
        self.calls = []

    def start(self, image, **prompt):
        return self._note("start", image, prompt)

    def step(self, image, **prompt):
        return self._note("step", image, prompt)

    def _note(self, name, image, prompt):
        self.calls.append((name, int(image[0, 0, 0]), *prompt.values()))
        return len(self.calls)


def images(count):
    return [np.full((2, 2, 3), number, np.uint8) for number in range(count)]


def prompted(prompts, bad=(), count=6):
    for number, image in enumerate(images(count)):
        is_bad = number in bad
        frame = NumberedFrame(number, None if is_bad else image, f"frame {number}" * is_bad)
        yield frame, {"boxes": prompts[number]} if number in prompts else None


@pytest.mark.parametrize("ahead", [False, True])
def test_it_starts_at_the_first_prompt_and_later_ones_enter(ahead):
    log = Log()
    pairs = list(follow(log, prompted({2: "A", 4: "B"}), ahead=ahead))
    assert [frame.number for frame, _ in pairs] == list(range(6))
    assert [result for _, result in pairs] == [None, None, 1, 2, 3, 4]
    assert log.calls == [("start", 2, "A"), ("step", 3), ("step", 4, "B"), ("step", 5)]


def test_bad_frames_are_told_or_skipped_but_for_those_in_which_objects_enter():
    log = Log()
    with pytest.raises(InputError, match="frame 3"):
        list(follow(log, prompted({1: "A"}, bad=(3,))))
    assert len(log.calls) == 2
    results = [r for _, r in follow(Log(), prompted({1: "A"}, bad=(0, 3)), skip_bad=True)]
    assert results == [None, 1, 2, None, 3, 4]
    with pytest.raises(InputError, match="frame 3; it cannot be skipped"):
        list(follow(Log(), prompted({1: "A", 3: "B"}, bad=(3,)), skip_bad=True))


def test_a_result_is_there_before_the_next_frame_and_reading_ahead_ends_with_the_loop():
    log = Log()
    next(follow(log, prompted({0: "A"})))
    assert log.calls == [("start", 0, "A")]
    before = threading.active_count()
    ahead = follow(Log(), itertools.cycle(prompted({0: "A"})), ahead=True)
    next(ahead)
    ahead.close()
    for thread in threading.enumerate():
        if thread.name == "read ahead":
            thread.join(timeout=10)
    assert threading.active_count() == before


class Rewindable(list):
    def backwards(self, start):
        return reversed(self[:start])


@pytest.mark.parametrize("source", [iter, Rewindable])
def test_a_box_in_the_middle_goes_both_ways(source):
    log = Log()
    pairs = list(propagate_video(log, source(images(6)), "A", start=3))
    assert [number for number, _ in pairs] == [3, 4, 5, 2, 1, 0]
    forwards = [("start", 3, "A"), ("step", 4), ("step", 5)]
    backwards = [("start", 3, "A"), ("step", 2), ("step", 1), ("step", 0)]
    assert log.calls == forwards + backwards
    assert [result for _, result in pairs] == [1, 2, 3, 5, 6, 7]


def test_a_video_without_the_frame_of_the_boxes_is_refused():
    with pytest.raises(InputError, match="frame 7: the video has 2 frames"):
        next(propagate_video(Log(), images(2), "A", start=7))
