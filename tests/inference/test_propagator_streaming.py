"""Objects enter and leave while frames stream, independently of each other."""

import functools
import re
import time

import cv2
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.inference import frame_step
from qmra_jax.inference.propagator import Propagator
from qmra_jax.runtime.compile_count import compiled_programs
from tests.support.toy_network import VARIABLES, ToyNetwork

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
A, B, C = [2, 3, 14, 12], [16, 10, 12, 18], [4, 20, 9, 9]
make = functools.partial(Propagator, ToyNetwork(), VARIABLES)


@pytest.fixture(scope="module")
def propagator():
    return make(interval=2)


def margins(result):
    """Foreground minus background logits of each object, recovered from the softmax over all."""
    p = np.asarray(result.probabilities, np.float64)
    return dict(zip(result.ids, np.log(p[1:]) - np.log(p[0]), strict=True))


@pytest.fixture(scope="module")
def alone(propagator):
    """Name of a box -> frame -> margins of the object when tracked alone."""

    def track(box, first):
        results = [propagator.start(FRAMES[first], [box])]
        results += [propagator.step(frame) for frame in FRAMES[first + 1 :]]
        return {first + k: margins(r)[1] for k, r in enumerate(results)}

    # Every second frame stays in memory, so starts at even frames agree.
    return {name: track(box, first) for name, box, first in (("A", A, 0), ("B", B, 2), ("C", C, 2))}


def assert_close(margins, expected):
    np.testing.assert_allclose(margins, expected, atol=1e-3)


def test_objects_enter_and_leave_at_any_frame(propagator, alone):
    first = propagator.start(FRAMES[0], [A])
    assert_close(margins(first)[1], alone["A"][0])
    propagator.step(FRAMES[1])
    both = propagator.step(FRAMES[2], [B, C])
    assert both.ids == propagator.ids == (1, 2, 3)
    assert both.boxes[1:].tolist() == [B, C]
    for frame in (3, 4):
        result = propagator.step(FRAMES[frame])
        for i, name in ((1, "A"), (2, "B"), (3, "C")):
            assert_close(margins(result)[i], alone[name][frame])
    propagator.remove(2)
    result = propagator.step(FRAMES[5])
    assert result.ids == (1, 3)
    assert set(np.unique(result.labels)) <= {0, 1, 3}
    assert result.boxes.shape == (2, 4)
    assert_close(margins(result)[1], alone["A"][5])
    assert_close(margins(result)[3], alone["C"][5])


def test_add_draws_in_the_last_frame(propagator, alone):
    propagator.start(FRAMES[0], [A])
    propagator.step(FRAMES[1])
    before = propagator.step(FRAMES[2])
    after = propagator.add([B], ids=[9])
    assert after.ids == (1, 9)
    assert_close(margins(after)[1], margins(before)[1])
    assert_close(margins(after)[9], alone["B"][2])
    assert_close(margins(propagator.step(FRAMES[3]))[9], alone["B"][3])


def test_labels_are_the_callers_ids(propagator):
    result = propagator.start(FRAMES[0], [A, B], ids=[7, 3])
    assert result.ids == (3, 7)
    assert result.boxes.tolist() == [B, A]
    assert set(np.unique(result.labels)) <= {0, 3, 7}
    swapped = propagator.start(FRAMES[0], [B, A], ids=[3, 7])
    np.testing.assert_array_equal(swapped.labels, result.labels)


def test_masks_start_as_their_tight_boxes(propagator):
    labels = np.zeros((32, 32), np.uint8)
    for i, (x, y, w, h) in ((4, A), (6, B)):
        labels[y + h // 2, x : x + w] = labels[y : y + h, x + w // 2] = i
    labels[0, 0] = 255
    boxes = propagator.start(FRAMES[0], [A, B], ids=[4, 6])
    for given in ({"masks": labels}, {"masks": labels == [[[4]], [[6]]], "ids": [4, 6]}):
        result = propagator.start(FRAMES[0], **given)
        assert result.ids == (4, 6)
        np.testing.assert_array_equal(result.labels, boxes.labels)


def test_a_0_255_mask_is_one_object(propagator):
    x, y, w, h = A
    mask = np.zeros((32, 32), np.uint8)
    mask[y : y + h, x : x + w] = 255
    boxes = propagator.start(FRAMES[0], [A])
    for given in (mask, mask > 0):
        np.testing.assert_array_equal(propagator.start(FRAMES[0], masks=given).labels, boxes.labels)
    assert propagator.step(FRAMES[1], masks=mask).ids == (1, 2)
    assert propagator.add(masks=mask, ids=[9]).ids == (1, 2, 9)


def test_an_object_that_enters_after_a_pause_without_objects_is_as_in_a_new_video(
    propagator, alone
):
    propagator.start(FRAMES[0], [A])
    propagator.step(FRAMES[1])
    propagator.remove(1)
    assert propagator._tracks.memory is None
    for _ in range(30):  # more frames than the bank has slots for
        result = propagator.step(FRAMES[0])
    assert result.ids == ()
    assert not result.labels.any()
    assert propagator.add([A]).ids == (1,)
    propagator.remove(1)
    result = propagator.step(FRAMES[2], [B])
    assert_close(margins(result)[1], alone["B"][2])
    for frame in (3, 4, 5):
        assert_close(margins(propagator.step(FRAMES[frame]))[1], alone["B"][frame])


def test_memory_frames_from_before_the_oldest_object_are_dropped(propagator):
    propagator.start(FRAMES[0], [A], ids=[100])
    for k in range(1, 30):
        propagator.step(FRAMES[k % 6])
        if k % 3 == 0:  # the next one enters, then the one before leaves
            propagator.add([A], ids=[100 + k])
            propagator.remove(propagator.ids[0])
    assert propagator._tracks.memory.key1.shape[1] == 4


def test_the_bank_never_exceeds_max_memory():
    capped = make(interval=1, max_memory=3)
    capped.start(FRAMES[0], [A])
    sizes = {capped._tracks.memory.key1.shape[1] for k in range(12) if capped.step(FRAMES[k % 6])}
    assert sizes == {3}


def test_a_long_video_compiles_few_programs():
    propagator = Propagator(ToyNetwork(), VARIABLES, interval=2)
    programs, known = frame_step.track._cache_size(), compiled_programs()
    for is_new in (True, False):
        assert (propagator.start(FRAMES[0], [A]).seconds is None) == is_new
        assert (propagator.step(FRAMES[1]).seconds is None) == is_new
        for k in range(40):
            propagator.step(FRAMES[k % 6])
        assert (compiled_programs() > known) == is_new
        known = compiled_programs()
        assert frame_step.track._cache_size() - programs == 4  # capacities 4, 8, 16, 32
    propagator.remove(1)
    assert propagator.step(FRAMES[1]).seconds is None  # no objects


def test_a_short_side_shrinks_what_the_network_sees_not_the_result(propagator, monkeypatch):
    small = make(short_side=16)
    result = small.start(FRAMES[0], [A])
    assert result.boxes.tolist() == [A]
    assert result.labels.shape == small.step(FRAMES[1]).labels.shape == (32, 32)
    assert small._tracks.memory.key1.shape[2:4] == (2, 2)
    labels = make(short_side=480).start(FRAMES[0], [A]).labels  # enlarges only if asked to
    np.testing.assert_array_equal(labels, propagator.start(FRAMES[0], [A]).labels)
    large = make(short_side=64, enlarge=True)
    assert large.start(FRAMES[0], [A]).labels.shape == (32, 32)
    assert large._tracks.memory.key1.shape[2:4] == (8, 8)

    resized, resize = [], cv2.resize

    def slow_resize(*arguments, **options):
        resized.append(True)
        return resize(*arguments, **options)

    monkeypatch.setattr(cv2, "resize", slow_resize)
    monkeypatch.setattr(time, "perf_counter", lambda: len(resized))
    assert small.step(FRAMES[2]).seconds == 0  # shrinking is not the network's time
    assert resized


def test_the_interval_may_change_while_a_video_runs(propagator):
    with pytest.raises(InputError, match="interval 0"):
        propagator.interval = 0
    propagator.start(FRAMES[0], [A])
    propagator.interval = 3
    for k in range(1, 6):
        propagator.step(FRAMES[k])
    numbers, memory = propagator.memory(1)
    assert (propagator.interval, numbers, memory.key1.shape[1]) == (3, (0, 3, 5), 3)


def test_a_prepared_stream_compiles_nothing():
    """For any sequence of up to 2 objects; of a frame size that no other test has."""
    propagator = make(interval=1, max_memory=3, short_side=16)
    frames, box = FRAMES[:, :, :20], [2, 3, 9, 9]
    propagator.start(frames[0], [box])
    assert propagator.prepare((32, 20), objects=2) > 0
    assert propagator.prepare([32, 20], objects=2) == 0
    known = compiled_programs()
    propagator.step(frames[1])  # the video that was running
    for first in (1, 2):
        for entering in range(4):
            propagator.start(frames[0], [box] * first)
            for k, frame in enumerate(frames[1:]):
                there = len(propagator.ids)
                if k == entering and there < 2:
                    propagator.step(frame, [box] * (2 - there))
                elif k == entering:
                    propagator.remove(propagator.ids[0])
                    propagator.add([box])
                else:
                    propagator.step(frame)
            for id in propagator.ids:
                propagator.remove(id)
                propagator.step(frames[0])
            propagator.add([box] * 2)
            propagator.remove(1)
            propagator.add([box])
    assert compiled_programs() == known
    for objects in (0, 255):
        with pytest.raises(InputError, match=f"objects {objects}"):
            propagator.prepare((32, 20), objects=objects)


def test_a_refused_start_leaves_the_running_video(propagator):
    propagator.start(FRAMES[0], [A])
    expected = propagator.step(FRAMES[1])
    propagator.start(FRAMES[0], [A])
    with pytest.raises(InputError, match="2,2,99,9"):
        propagator.start(FRAMES[3], [[2, 2, 99, 9]])
    np.testing.assert_array_equal(propagator.step(FRAMES[1]).labels, expected.labels)


def test_inputs_and_results_share_no_memory_with_the_propagator(propagator):
    """A camera may reuse one array for all its frames."""
    frame, box = FRAMES[0].copy(), np.array([A], np.int32)
    propagator.start(FRAMES[0], box)
    expected = propagator.add([B])
    result = propagator.start(frame, box)
    frame[:], box[:], result.boxes[:] = 0, 0, 0
    found = propagator.add([B])
    assert found.boxes.tolist() == [A, B]
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)


MASK = np.ones((32, 32), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"boxes": [B], "ids": [1]}, "id 1"),
        ({"boxes": [A, B], "ids": [5, 5]}, "id 5"),
        ({"boxes": [B], "ids": [255]}, "id 255"),
        ({"boxes": [B], "ids": [1.5]}, "id 1.5"),
        ({"boxes": [B], "ids": ["a"]}, "id 'a'"),
        ({"boxes": [B], "ids": 7}, "ids 7"),
        ({"boxes": [A, B], "ids": [2]}, "1 ids for 2 objects"),
        ({"boxes": [B] * 254}, "254 objects beside the 1"),
        ({"boxes": [9, 1, 3, 2]}, "boxes [9, 1, 3, 2]"),
        ({"boxes": 9}, "boxes 9"),
        ({"boxes": [A], "masks": MASK}, "boxes or masks"),
        ({"masks": MASK.astype(np.float32)}, "masks of float32"),
        ({"masks": 2 * MASK, "ids": [2, 3]}, "mask of object 3"),
        ({"masks": 2 * MASK, "ids": ["a"]}, "id 'a'"),
        ({"masks": 2 * MASK, "ids": []}, "0 objects"),
        ({"masks": 0 * MASK}, "mask of object 2"),
        ({"masks": np.zeros((1, 32, 32), bool)}, "mask of object 2"),
        ({"masks": np.zeros((1, 16, 32), bool)}, "masks of shape [1, 16, 32]"),
    ],
)
def test_bad_objects_are_refused_and_leave_the_video_unchanged(propagator, arguments, named):
    propagator.start(FRAMES[0], [A])
    with pytest.raises(InputError, match=re.escape(named)):
        propagator.add(**arguments)
    assert propagator.ids == (1,)
    assert propagator.step(FRAMES[1]).ids == (1,)


def test_removing_an_unknown_object_is_refused(propagator):
    propagator.start(FRAMES[0], [A])
    with pytest.raises(InputError, match="object 8"):
        propagator.remove(8)
    assert propagator.ids == (1,)
