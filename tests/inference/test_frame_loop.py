"""The frame loop: prompts, unreadable frames, both directions."""

import itertools
import threading

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.inference.frame_loop import NumberedFrame, follow, propagate_video


class FakePropagator:
    """Logs its calls, and returns how many there were."""

    def __init__(self):
        self.calls = []

    def start(self, image, **prompt):
        return self._log("start", image, prompt)

    def step(self, image, **prompt):
        return self._log("step", image, prompt)

    def _log(self, name, image, prompt):
        self.calls.append((name, int(image[0, 0, 0]), *prompt.values()))
        return len(self.calls)


def images(count):
    return [np.full((2, 2, 3), number, np.uint8) for number in range(count)]


def prompted(prompts, bad=()):
    for number, image in enumerate(images(6)):
        is_bad = number in bad
        frame = NumberedFrame(number, None if is_bad else image, f"frame {number}" * is_bad)
        yield frame, {"boxes": prompts[number]} if number in prompts else None


@pytest.mark.parametrize("ahead", [False, True])
def test_starts_at_the_first_prompt_and_adds_later_ones(ahead):
    propagator = FakePropagator()
    pairs = list(follow(propagator, prompted({2: "A", 4: "B"}), ahead=ahead))
    assert [frame.number for frame, _ in pairs] == list(range(6))
    assert [result for _, result in pairs] == [None, None, 1, 2, 3, 4]
    assert propagator.calls == [("start", 2, "A"), ("step", 3), ("step", 4, "B"), ("step", 5)]


def test_unreadable_frames_raise_or_are_skipped_unless_objects_enter():
    propagator = FakePropagator()
    with pytest.raises(InputError, match="frame 3"):
        list(follow(propagator, prompted({1: "A"}, bad=(3,))))
    assert len(propagator.calls) == 2
    results = follow(FakePropagator(), prompted({1: "A"}, bad=(0, 3)), skip_bad=True)
    assert [result for _, result in results] == [None, 1, 2, None, 3, 4]
    with pytest.raises(InputError, match="frame 3"):
        list(follow(FakePropagator(), prompted({1: "A", 3: "B"}, bad=(3,)), skip_bad=True))


def test_yields_before_the_next_frame_and_stops_reading_ahead_when_closed():
    propagator = FakePropagator()
    next(follow(propagator, prompted({0: "A"})))
    assert propagator.calls == [("start", 0, "A")]
    ahead = follow(FakePropagator(), itertools.cycle(prompted({0: "A"})), ahead=True)
    next(ahead)
    ahead.close()
    for thread in threading.enumerate():
        if thread.name.startswith("read ahead"):
            thread.join(timeout=10)
            assert not thread.is_alive()


class Rewindable(list):
    def backwards(self, start):
        return reversed(self[:start])


@pytest.mark.parametrize("source", [iter, Rewindable])
def test_a_box_in_a_middle_frame_is_propagated_in_both_directions(source):
    propagator = FakePropagator()
    pairs = list(propagate_video(propagator, source(images(6)), "A", start=3))
    assert [number for number, _ in pairs] == [3, 4, 5, 2, 1, 0]
    forwards = [("start", 3, "A"), ("step", 4), ("step", 5)]
    backwards = [("start", 3, "A"), ("step", 2), ("step", 1), ("step", 0)]
    assert propagator.calls == forwards + backwards
    assert [result for _, result in pairs] == [1, 2, 3, 5, 6, 7]


def test_a_start_frame_beyond_the_end_is_refused():
    with pytest.raises(InputError, match=r"frame 7: .*2 frames"):
        next(propagate_video(FakePropagator(), images(2), "A", start=7))
