"""Objects processed one after another equal a batch, and share what does not depend on them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax.boxes import box_to_map
from qmra_jax.inference import frame_step
from qmra_jax.inference.propagator import Propagator
from tests.support.toy_network import VARIABLES, ToyNetwork

SIZE = HEIGHT, WIDTH = 27, 44
FRAMES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype(np.uint8)
MAPS = box_to_map(np.array([[5, 6, 20, 11], [30, 2, 9, 20]]), *SIZE)
IN_TURN = np.arange(2, dtype=np.int32), np.int32(2)
VALID, SLOTS = np.ones((2, 1), bool), np.zeros(2, np.int32)
TOY = ToyNetwork()
enter = functools.partial(frame_step.enter, TOY, VARIABLES, FRAMES[0], MAPS, SIZE)


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), a, b)


def test_objects_in_turn_equal_a_batch():
    batch, in_turn = enter(), enter(in_turn=IN_TURN)
    assert_close(batch, in_turn)
    assert batch[0].std() > 0.1
    track = functools.partial(frame_step.track, TOY, VARIABLES)
    later = [
        track(jax.tree.map(jnp.copy, batch[1]), VALID, SLOTS, FRAMES[1], SIZE, in_turn=in_turn)
        for in_turn in (None, IN_TURN)  # the memory is donated
    ]
    assert_close(*later)


def test_padding_rows_of_a_bucket_are_skipped():
    margins, memory = enter(in_turn=(np.array([1, 0], np.int32), np.int32(1)))
    assert_close(margins[1], enter()[0][1])
    assert not margins[0].any()
    assert not any(np.asarray(x)[0].any() for x in jax.tree.leaves(memory))


def test_five_objects_of_a_large_frame_take_turns(monkeypatch):
    """In a bucket of six; a removed object leaves a free row among them."""
    boxes = [[x, y, 9, 8] for x, y in ((0, 0), (10, 4), (20, 9), (30, 3), (34, 15), (2, 16))]
    found = []
    for pixels in (HEIGHT * WIDTH + 1, HEIGHT * WIDTH):
        monkeypatch.setattr(frame_step, "IN_TURN_PIXELS", pixels)
        propagator = Propagator(TOY, VARIABLES)
        propagator.start(FRAMES[0], boxes)
        propagator.remove(3)
        results = [propagator.step(frame) for frame in FRAMES[1:]]
        assert [result.ids for result in results] == [(1, 2, 4, 5, 6)] * 2
        found.append([(result.probabilities, result.boxes) for result in results])
    assert_close(*found)


def test_f_q_is_computed_once_for_all_objects(tiny_model, tiny_variables):
    """The compiler hoists f_q out of the loop over objects."""
    memory = jax.eval_shape(
        functools.partial(tiny_model.apply, method="memorize"),
        *(tiny_variables, np.zeros((2, 32, 48, 3)), np.zeros((2, 32, 48, 1))),
    )
    lowered = frame_step.track.lower(
        tiny_model, tiny_variables, memory, VALID, SLOTS, FRAMES[1], SIZE, in_turn=IN_TURN
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
