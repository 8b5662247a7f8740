"""Propagation against a plain re-implementation of the paper's inference, and input checks."""

import functools
import re
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.boxes import box_to_map
from qmra_jax.errors import InputError
from qmra_jax.inference import frame_step
from qmra_jax.inference.object_merging import MERGES
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.model import foreground

RNG = np.random.default_rng(0)
SIZE = HEIGHT, WIDTH = 27, 44  # padded to 32 x 48: 2 rows above, 3 below; 2 columns on each side
FRAMES = RNG.integers(0, 256, (9, HEIGHT, WIDTH, 3)).astype(np.uint8)
BOXES = np.array([[5, 6, 20, 11], [30, 2, 9, 20]])
MAPS = box_to_map(BOXES, HEIGHT, WIDTH)
IN_TURN = np.arange(2, dtype=np.int32), np.int32(2)
INTERVAL = 2  # frames 2, 4, 6 stay: the bank of 4 must grow once


@pytest.fixture(scope="module")
def make(tiny_model, tiny_variables):
    return functools.partial(Propagator, tiny_model, tiny_variables)


@pytest.fixture(scope="module")
def propagator(make):
    return make(interval=INTERVAL)


def run(propagator):
    return [propagator.start(FRAMES[0], BOXES), *map(propagator.step, FRAMES[1:])]


@pytest.fixture(scope="module")
def results(propagator):
    return run(propagator)


@pytest.fixture(scope="module")
def expected(tiny_model, tiny_variables):
    """Margins `[n, h, w]` and box probabilities by the plain rule: no bank, nothing shared."""

    @jax.jit
    def see(query, memory, given=None):
        located = tiny_model.apply(tiny_variables, query, memory, method="locate")
        box = foreground(located.box) if given is None else given
        segmented = tiny_model.apply(
            tiny_variables, query, box, memory, located.feature, method="segment"
        )
        entry = tiny_model.apply(tiny_variables, query, box, method="memorize")
        return box, segmented, entry

    stored, out = [], []
    for k, frame in enumerate(FRAMES):
        image = np.zeros((len(BOXES), 32, 48, 3), np.float32)
        image[:, 2:-3, 2:-2] = frame / np.float32(255)
        if k == 0:
            maps = np.zeros((len(BOXES), 32, 48, 1), np.float32)
            for box_map, (x, y, w, h) in zip(maps, BOXES, strict=True):
                box_map[2 + y : 2 + y + h, 2 + x : 2 + x + w] = 1
            memory = tiny_model.apply(tiny_variables, image, maps, method="memorize")
            box, segmented, entry = see(image, memory, maps)
        else:
            numbers = sorted({0, k - 1, *range(0, k, INTERVAL)})
            memory = jax.tree.map(
                lambda *x: jnp.concatenate(x, axis=1), *[stored[i] for i in numbers]
            )
            box, segmented, entry = see(image, memory)
        stored.append(entry)
        margin = segmented.refined[:, 2:-3, 2:-2, 1] - segmented.refined[:, 2:-3, 2:-2, 0]
        out.append((np.asarray(margin), np.asarray(box[:, 2:-3, 2:-2, 0])))
    return out


def test_labels_are_those_of_the_plain_rule(results, expected):
    for k, (result, (margin, _)) in enumerate(zip(results, expected, strict=True)):
        scores = np.concatenate([np.zeros((1, *SIZE)), margin])
        chosen = np.take_along_axis(scores, result.labels[None].astype(int), axis=0)[0]
        # The chosen label is the best, up to rounding.
        np.testing.assert_allclose(chosen, scores.max(axis=0), atol=1e-3, err_msg=f"frame {k}")
        assert result.labels.dtype == np.uint8
        probabilities = np.asarray(result.probabilities)
        assert probabilities.shape == (len(BOXES) + 1, *SIZE)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=0), result.labels)


def test_boxes_are_the_prompts_then_those_of_b_q(results, expected):
    assert results[0].boxes.tolist() == BOXES.tolist()
    for result, (_, probability) in zip(results[1:], expected[1:], strict=True):
        for (x, y, w, h), p in zip(result.boxes, probability, strict=True):
            outside = p.copy()
            outside[y : y + h, x : x + w] = 0
            assert outside.max() < 0.5 + 1e-3
            if w:
                inside = p[y : y + h, x : x + w] > 0.5 - 1e-3
                assert inside.any(0)[[0, -1]].all()
                assert inside.any(1)[[0, -1]].all()


def test_a_second_start_forgets_the_first_video_and_compiles_nothing(make, propagator, results):
    for again in (run(propagator), run(make(interval=INTERVAL))):
        for result, first in zip(again, results, strict=True):
            np.testing.assert_array_equal(result.labels, first.labels)
            assert result.seconds > 0  # timed, as nothing was compiled


def test_seconds_are_none_where_a_program_was_compiled_and_without_objects(propagator, results):
    frame_step.track.clear_cache()
    propagator.start(FRAMES[0], BOXES)
    assert propagator.step(FRAMES[1]).seconds is None
    propagator.remove(1)
    propagator.remove(2)
    assert propagator.step(FRAMES[2]).seconds is None


def test_a_short_side_shrinks_what_the_network_sees_not_the_result(make, results, monkeypatch):
    small = make(short_side=16)
    result = small.start(FRAMES[0], BOXES)
    assert result.boxes.tolist() == BOXES.tolist()
    assert result.labels.shape == small.step(FRAMES[1]).labels.shape == SIZE
    larger = make(short_side=480)  # never enlarges
    np.testing.assert_array_equal(larger.start(FRAMES[0], BOXES).labels, results[0].labels)

    resized, resize = [], cv2.resize

    def slow_resize(*arguments, **options):
        resized.append(True)
        return resize(*arguments, **options)

    monkeypatch.setattr(cv2, "resize", slow_resize)
    monkeypatch.setattr(time, "perf_counter", lambda: len(resized))
    assert small.step(FRAMES[2]).seconds == 0  # shrinking is not the network's time
    assert resized


@pytest.fixture(scope="module")
def first_frames(tiny_model, tiny_variables):
    """`frame_step.enter` of a batch of objects, and of one after another."""
    enter = functools.partial(frame_step.enter, tiny_model, tiny_variables, FRAMES[0], MAPS)
    return [enter(SIZE, in_turn=in_turn) for in_turn in (None, IN_TURN)]


def test_objects_in_turn_equal_a_batch(tiny_model, tiny_variables, first_frames):
    """Frames are large enough for this on a CPU in no other test here."""
    valid, slots = np.ones((2, 1), bool), np.zeros(2, np.int32)

    def track(memory, in_turn):
        memory = jax.tree.map(jnp.copy, memory)  # it is donated
        arguments = (memory, valid, slots, FRAMES[1], SIZE)
        return frame_step.track(tiny_model, tiny_variables, *arguments, in_turn=in_turn)

    batch, in_turn = first_frames
    later = track(batch[1], None), track(in_turn[1], IN_TURN)
    for a, b in (first_frames, later):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), a, b)


def test_padding_rows_of_a_bucket_are_skipped(first_frames, tiny_model, tiny_variables):
    margins, memory = frame_step.enter(
        tiny_model,
        tiny_variables,
        FRAMES[0],
        MAPS,
        SIZE,
        in_turn=(np.array([1, 0], np.int32), np.int32(1)),
    )
    np.testing.assert_allclose(margins[1], first_frames[0][0][1], atol=1e-3)
    assert not margins[0].any()
    assert not any(np.asarray(x)[0].any() for x in jax.tree.leaves(memory))


@pytest.mark.slow
def test_five_objects_of_a_large_frame_take_turns(make, monkeypatch):
    """In a bucket of six; a removed object leaves a free row among them."""
    boxes = [[x, y, 9, 8] for x, y in ((0, 0), (10, 4), (20, 9), (30, 3), (34, 15))]
    found = []
    for pixels in (HEIGHT * WIDTH + 1, HEIGHT * WIDTH):
        monkeypatch.setattr(frame_step, "IN_TURN_PIXELS", pixels)
        propagator = make(interval=INTERVAL)
        propagator.start(FRAMES[0], [*boxes, [2, 16, 9, 8]])
        propagator.remove(3)
        results = [propagator.step(frame) for frame in FRAMES[1:3]]
        assert [result.ids for result in results] == [(1, 2, 4, 5, 6)] * 2
        found.append([(result.probabilities, result.boxes) for result in results])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), *found)


def test_f_q_is_computed_once_for_all_objects(tiny_model, tiny_variables, first_frames):
    """The compiler hoists f_q out of the loop over objects."""
    arguments = (first_frames[1][1], np.ones((2, 1), bool), np.zeros(2, np.int32), FRAMES[1])
    lowered = frame_step.track.lower(tiny_model, tiny_variables, *arguments, SIZE, in_turn=IN_TURN)
    text = lowered.compile().as_text()
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    inside = "".join(
        part
        for part in re.split(r"\n(?=\S)", text)
        if part.removeprefix("%").split(" ")[0] in bodies
    )
    assert "memory_encoder/layer1_0" in inside
    assert "query_encoder/layer1_0" in text
    assert "query_encoder/layer1_0" not in inside


def test_softmax_merges_with_a_background_logit_of_zero():
    logits = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    e = np.exp(np.concatenate([np.zeros((1, 3, 4)), logits]))
    np.testing.assert_allclose(MERGES["softmax"](logits, np.ones(2, bool)), e / e.sum(0), rtol=1e-5)


def test_soft_aggregation_merges_as_stm():
    logits = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    p = 1 / (1 + np.exp(-logits))
    p = np.clip(np.concatenate([np.prod(1 - p, axis=0)[None], p]), 1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    merged = MERGES["soft_aggregation"](logits, np.ones(2, bool))
    np.testing.assert_allclose(merged, odds / odds.sum(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"interval": 0}, "interval 0"),
        ({"interval": 2.5}, "interval 2.5"),
        ({"max_memory": 1}, "max_memory 1"),
        ({"max_memory": 2.5}, "max_memory 2.5"),
        ({"short_side": 2.5}, "short_side 2.5"),
        ({"short_side": 8}, "short_side 8"),
        ({"merge": "max"}, "merge 'max'"),
    ],
    ids=str,
)
def test_invalid_options_are_refused(make, options, named):
    with pytest.raises(InputError, match=re.escape(named)):
        make(**options)


def test_the_interval_may_change_while_a_video_runs(make):
    propagator = make(interval=1)
    with pytest.raises(InputError, match="interval 0"):
        propagator.interval = 0
    propagator.interval = 7
    assert propagator.interval == 7


def test_bad_frames_and_boxes_are_refused(make, propagator):
    fresh = make()
    with pytest.raises(InputError, match="step"):
        fresh.step(FRAMES[0])
    for frame, boxes, named in (
        (FRAMES[0], np.zeros((0, 4), int), "0 objects"),
        (FRAMES[0], [[40, 0, 9, 9]], "40,0,9,9"),
        (FRAMES[0].astype(np.float32), BOXES, "float32"),
    ):
        with pytest.raises(InputError, match=named):
            fresh.start(frame, boxes)
    propagator.start(FRAMES[0], BOXES)
    with pytest.raises(InputError, match="frame 1 is 20x27"):
        propagator.step(FRAMES[1][:, :20])
