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
HEIGHT, WIDTH = 27, 44  # padded to 32 x 48: 2 rows above, 3 below; 2 columns on each side
FRAMES = RNG.integers(0, 256, (9, HEIGHT, WIDTH, 3)).astype(np.uint8)
BOXES = np.array([[5, 6, 20, 11], [30, 2, 9, 20]])
MAPS = box_to_map(np.asarray(BOXES), HEIGHT, WIDTH)
BOTH = np.arange(2, dtype=np.int32), np.int32(2)  # rows to be seen in turn, and how many
INTERVAL = 2  # frames 2, 4, 6 stay: the bank of 4 must grow once


@pytest.fixture(scope="module")
def propagator(tiny_model, tiny_variables):
    return Propagator(tiny_model, tiny_variables, interval=INTERVAL)


def run(propagator):
    return [propagator.start(FRAMES[0], BOXES), *map(propagator.step, FRAMES[1:])]


@pytest.fixture(scope="module")
def results(propagator):
    return run(propagator)


@pytest.fixture(scope="module")
def expected(tiny_model, tiny_variables):
    """Margins `[n, h, w]` and boxes' probabilities by the plain rule: no bank, nothing shared."""

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
            given = np.zeros((len(BOXES), 32, 48, 1), np.float32)
            for box_map, (x, y, w, h) in zip(given, BOXES, strict=True):
                box_map[2 + y : 2 + y + h, 2 + x : 2 + x + w] = 1
            memory = tiny_model.apply(tiny_variables, image, given, method="memorize")
            box, segmented, entry = see(image, memory, given)
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


def test_every_frame_s_labels_are_those_of_the_plain_rule(results, expected):
    for k, (result, (margin, _)) in enumerate(zip(results, expected, strict=True)):
        scores = np.concatenate([np.zeros((1, HEIGHT, WIDTH)), margin])
        chosen = np.take_along_axis(scores, result.labels[None].astype(int), axis=0)[0]
        # The label chosen is the best, or as good as the best to rounding.
        np.testing.assert_allclose(chosen, scores.max(axis=0), atol=1e-3, err_msg=f"frame {k}")
        assert result.labels.dtype == np.uint8
        assert result.labels.shape == (HEIGHT, WIDTH)


def test_boxes_are_the_given_ones_then_those_of_b_q(results, expected):
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


def test_time_is_told_but_for_frames_that_compile(tiny_model, tiny_variables, propagator, results):
    another = Propagator(tiny_model, tiny_variables, interval=INTERVAL)  # nothing is new to it
    for timed in (run(propagator), run(another)):
        assert all(result.seconds is not None and result.seconds > 0 for result in timed)
    frame_step.track.clear_cache()
    propagator.start(FRAMES[0], BOXES)
    assert propagator.step(FRAMES[1]).seconds is None


def test_no_time_is_told_of_frames_without_an_object(propagator, results):
    propagator.start(FRAMES[0], BOXES[:1])
    propagator.remove(1)
    assert propagator.step(FRAMES[1]).seconds is None


def test_the_time_is_the_network_s_alone(tiny_model, tiny_variables, monkeypatch):
    small = Propagator(tiny_model, tiny_variables, short_side=16)
    small.start(FRAMES[0], BOXES)
    small.step(FRAMES[1])
    resize = cv2.resize
    monkeypatch.setattr(cv2, "resize", lambda *a, **k: (time.sleep(1), resize(*a, **k))[1])
    assert small.step(FRAMES[2]).seconds < 0.9


def test_a_second_start_forgets_the_first_video(propagator, results):
    for again, result in zip(run(propagator), results, strict=True):
        np.testing.assert_array_equal(again.labels, result.labels)


def test_a_short_side_changes_what_the_network_sees_not_what_comes_out(
    tiny_model, tiny_variables, results
):
    small = Propagator(tiny_model, tiny_variables, short_side=16)
    result = small.start(FRAMES[0], BOXES)
    assert result.boxes.tolist() == BOXES.tolist()
    assert result.labels.shape == small.step(FRAMES[1]).labels.shape == (HEIGHT, WIDTH)
    larger = Propagator(tiny_model, tiny_variables, short_side=480)  # which never enlarges
    np.testing.assert_array_equal(larger.start(FRAMES[0], BOXES).labels, results[0].labels)


def test_probabilities_are_there_to_be_looked_at(results):
    for result in results:
        probabilities = np.asarray(result.probabilities)
        assert probabilities.shape == (len(BOXES) + 1, HEIGHT, WIDTH)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=0), result.labels)


@pytest.fixture(scope="module")
def first_frames(tiny_model, tiny_variables):
    """`frame_step.enter` of a batch of objects, and of one after another."""
    see = functools.partial(frame_step.enter, tiny_model, tiny_variables, FRAMES[0], MAPS)
    return [see((HEIGHT, WIDTH), in_turn=in_turn) for in_turn in (None, BOTH)]


def test_objects_in_turn_are_what_they_are_as_a_batch(tiny_model, tiny_variables, first_frames):
    """A CPU takes turns over large frames, which the other tests here have none of."""
    valid, slots = np.ones((2, 1), bool), np.zeros(2, np.int32)
    later = [
        frame_step.track(
            tiny_model,
            tiny_variables,
            jax.tree.map(jnp.copy, memory),  # track consumes it
            valid,
            slots,
            FRAMES[1],
            (HEIGHT, WIDTH),
            in_turn=in_turn,
        )
        for in_turn, (_, memory) in zip((None, BOTH), first_frames, strict=True)
    ]
    for batch, in_turn in (first_frames, later):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), batch, in_turn)


def test_rows_that_only_fill_up_a_bucket_are_passed_over(first_frames, tiny_model, tiny_variables):
    """The loop over objects takes as many turns as there are objects, in rows of any order."""
    (both, _), _ = first_frames
    (found, memory) = frame_step.enter(
        tiny_model,
        tiny_variables,
        FRAMES[0],
        MAPS,
        (HEIGHT, WIDTH),
        in_turn=(np.array([1, 0], np.int32), np.int32(1)),
    )
    np.testing.assert_allclose(found[1], both[1], atol=1e-3)
    assert not found[0].any()
    assert not any(np.asarray(x)[0].any() for x in jax.tree.leaves(memory))


@pytest.mark.slow
def test_five_objects_of_a_large_frame_take_turns(tiny_model, tiny_variables, monkeypatch):
    """They fill five rows of six; one that leaves frees a row in their midst."""
    boxes = [[x, y, 9, 8] for x, y in ((0, 0), (10, 4), (20, 9), (30, 3), (34, 15))]
    found = []
    for pixels in (HEIGHT * WIDTH + 1, HEIGHT * WIDTH):
        monkeypatch.setattr(frame_step, "IN_TURN_PIXELS", pixels)
        propagator = Propagator(tiny_model, tiny_variables, interval=INTERVAL)
        propagator.start(FRAMES[0], [*boxes, [2, 16, 9, 8]])
        propagator.remove(3)
        results = [propagator.step(frame) for frame in FRAMES[1:3]]
        assert [result.ids for result in results] == [(1, 2, 4, 5, 6)] * 2
        found.append([(result.probabilities, result.boxes) for result in results])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), *found)


def test_what_no_object_changes_is_computed_once(tiny_model, tiny_variables, first_frames):
    """The loop over objects holds nothing of f_q: the compiler takes it out."""
    arguments = (first_frames[1][1], np.ones((2, 1), bool), np.zeros(2, np.int32), FRAMES[1])
    lowered = frame_step.track.lower(
        tiny_model, tiny_variables, *arguments, (HEIGHT, WIDTH), in_turn=BOTH
    )
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


def test_the_interval_may_change_while_a_video_runs(tiny_model, tiny_variables):
    propagator = Propagator(tiny_model, tiny_variables, interval=1)
    with pytest.raises(InputError, match="interval 0"):
        propagator.interval = 0
    propagator.interval = 7
    assert propagator.interval == 7


def test_softmax_merges_over_a_background_of_zero():
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
        ({"max_memory": 2.5}, "max_memory 2.5"),
        ({"short_side": 2.5}, "short side 2.5"),
        ({"short_side": 8}, "short side 8"),
        ({"merge": "max"}, "merge 'max'"),
    ],
    ids=str,
)
def test_an_option_that_is_none_is_refused(tiny_model, tiny_variables, options, named):
    with pytest.raises(InputError, match=re.escape(named)):
        Propagator(tiny_model, tiny_variables, **options)


def test_bad_frames_and_boxes_are_refused(tiny_model, tiny_variables, propagator):
    fresh = Propagator(tiny_model, tiny_variables)
    with pytest.raises(InputError, match="step before start"):
        fresh.step(FRAMES[0])
    with pytest.raises(InputError, match="no box"):
        fresh.start(FRAMES[0], np.zeros((0, 4), int))
    with pytest.raises(InputError, match="40,0,9,9"):
        fresh.start(FRAMES[0], [[40, 0, 9, 9]])
    with pytest.raises(InputError, match="float32"):
        fresh.start(FRAMES[0].astype(np.float32), BOXES)
    propagator.start(FRAMES[0], BOXES)
    with pytest.raises(InputError, match="frame 1 is 20 wide and 27 high"):
        propagator.step(FRAMES[1][:, :20])
