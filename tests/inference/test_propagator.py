"""Propagation against a plain re-implementation of the paper's inference, and input checks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.boxes import box_to_map
from qmra_jax.errors import InputError
from qmra_jax.inference.object_tracks import NOT_HERE
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.model import foreground
from tests.support.toy_network import VARIABLES, ToyNetwork

SIZE = HEIGHT, WIDTH = 27, 44  # padded to 32 x 48: 2 rows above, 3 below; 2 columns on each side
FRAMES = np.random.default_rng(0).integers(0, 256, (9, *SIZE, 3)).astype(np.uint8)
BOXES = np.array([[5, 6, 20, 11], [30, 2, 9, 20]])
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
    """Margins `[n, h, w]` and box probabilities by the plain rule: no bank, nothing shared."""
    most = 5  # memory frames

    def apply(*arguments, method):
        return tiny_model.apply(tiny_variables, *arguments, method=method)

    @jax.jit
    def see(image, prompt_maps, is_first, memory, valid):
        first = apply(image, prompt_maps, method="memorize")
        first = jax.tree.map(lambda x: jnp.repeat(x, most, axis=1), first)
        memory = jax.tree.map(lambda a, b: jnp.where(is_first, a, b), first, memory)
        located = apply(image, memory, valid, method="locate")
        box = jnp.where(is_first, prompt_maps, foreground(located.box))
        segmented = apply(image, box, memory, located.feature, valid, method="segment")
        margin = segmented.refined[..., 1] - segmented.refined[..., 0]
        return margin, box[..., 0], apply(image, box, method="memorize")

    def pad(x):
        return np.pad(x, [(0, 0), (2, 3), (2, 2), (0, 0)])

    maps = pad(box_to_map(BOXES, *SIZE)[..., None])
    stored, out = [], []
    memory = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype),
        jax.eval_shape(lambda *x: apply(*x, method="memorize"), np.zeros((2, 32, 48, 3)), maps),
    )
    memory = jax.tree.map(lambda x: np.repeat(x, most, axis=1), memory)
    for k, frame in enumerate(FRAMES):
        if k:
            numbers = sorted({0, k - 1, *range(0, k, INTERVAL)})
            padded = [stored[i] for i in (*numbers, *[0] * (most - len(numbers)))]
            memory = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *padded)
            valid = np.tile(np.arange(most) < len(numbers), (2, 1))
        else:
            valid = np.ones((2, most), bool)
        image = pad(np.repeat(frame[None] / np.float32(255), 2, axis=0))
        margin, box, entry = see(image, maps, k == 0, memory, valid)
        stored.append(entry)
        margin, box = (np.array(x)[:, 2:-3, 2:-2] for x in (margin, box))
        if k == 0:  # nothing lies outside a given box
            margin[box == 0] = NOT_HERE
        out.append([margin, box])
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


def test_an_objects_mask_lies_within_its_box_in_the_frame_where_it_is_drawn(results):
    probabilities = np.asarray(results[0].probabilities)[1:]
    for inside, probability in zip(box_to_map(BOXES, *SIZE) > 0, probabilities, strict=True):
        assert probability[~inside].max() < 1e-6 < probability[inside].max()


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


def test_another_video_or_propagator_gives_the_same_and_compiles_nothing(
    tiny_model, tiny_variables, propagator, results
):
    another = Propagator(tiny_model, tiny_variables, interval=INTERVAL)
    for again in (run(propagator), run(another)):
        for result, first in zip(again, results, strict=True):
            np.testing.assert_array_equal(result.labels, first.labels)
            assert result.seconds > 0  # timed, as nothing was compiled


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
def test_invalid_options_are_refused(options, named):
    with pytest.raises(InputError, match=re.escape(named)):
        Propagator(ToyNetwork(), VARIABLES, **options)


def test_bad_frames_and_boxes_are_refused():
    propagator = Propagator(ToyNetwork(), VARIABLES)
    with pytest.raises(InputError, match="step"):
        propagator.step(FRAMES[0])
    for frame, boxes, named in (
        (FRAMES[0], np.zeros((0, 4), int), "0 objects"),
        (FRAMES[0], [[40, 0, 9, 9]], "40,0,9,9"),
        (FRAMES[0].astype(np.float32), BOXES, "float32"),
    ):
        with pytest.raises(InputError, match=named):
            propagator.start(frame, boxes)
    propagator.start(FRAMES[0], BOXES)
    with pytest.raises(InputError, match="frame 1 is 20x27"):
        propagator.step(FRAMES[1][:, :20])
