"""DAVIS's two protocols: which frames and objects are scored, and what 255 means."""

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.scoring.protocols import score_sequence


def labels(*objects, frames=5, height=40, width=50):
    """A `[t, h, w]` label map with a 10 x 10 square for each (label, x)."""
    maps = np.zeros((frames, height, width), np.uint8)
    for label, x in objects:
        maps[:, 10:20, x : x + 10] = label
    return maps


def test_0_255_masks_score_as_their_one_object_does():
    truth, prediction = labels((1, 10)), labels((1, 14))
    expected = score_sequence(truth, prediction, "davis2017").pop("objects")["1"]
    for t, p in [(255, 255), (255, 1), (1, 255)]:
        assert score_sequence(truth * t, prediction * p, "davis2016") == expected


def test_void_is_background_whatever_is_predicted_there():
    void = labels((1, 10), (255, 30))
    for protocol in ("davis2017", "davis2016"):
        assert score_sequence(void, labels((1, 10)), protocol)["J"]["mean"] == 1
        assert score_sequence(void, labels((1, 10), (1, 30)), protocol)["J"]["mean"] == 0.5


def test_void_stays_void_in_davis2016_when_the_objects_leave():
    truth = labels((1, 10), (255, 30))
    truth[1:][truth[1:] == 1] = 0
    assert score_sequence(truth, labels(), "davis2016")["J&F"] == 1


def test_the_first_and_the_last_frame_do_not_count():
    truth = labels((1, 10))
    prediction = truth.copy()
    prediction[[0, -1]] = 7
    assert score_sequence(truth, prediction)["J&F"] == 1


def test_an_object_that_is_never_predicted_scores_0():
    scores = score_sequence(labels((1, 10), (2, 30)), labels((1, 10)))
    assert scores["objects"]["1"]["J&F"] == 1
    assert scores["objects"]["2"]["J&F"] == 0
    assert scores["J&F"] == 0.5


def test_an_object_that_enters_late_counts_as_background_with_a_warning():
    truth = labels((1, 10), (2, 30))
    truth[0][truth[0] == 2] = 0
    with pytest.warns(UserWarning, match="the sequence"):
        scores = score_sequence(truth, labels((1, 10)))
    assert list(scores["objects"]) == ["1"]


@pytest.mark.parametrize(
    ("truth", "named"),
    [
        (labels(), "the sequence is empty"),
        (labels((1, 10), frames=1), "1 masks"),
        (labels((1, 10), frames=2), "2 masks"),
        (labels((255, 10)), "davis2016"),
        (labels((255, 10), (190, 30)), "190"),  # a blended 0/255 mask
    ],
)
def test_a_truth_that_cannot_be_scored_is_refused(truth, named):
    with pytest.raises(InputError, match=named):
        score_sequence(truth, labels((1, 10), frames=len(truth)))


def test_a_prediction_that_does_not_fit_is_refused():
    prediction = labels((1, 10))
    prediction[2] *= 4
    with pytest.raises(InputError, match=r"frame 2 .*label 4"):
        score_sequence(labels((1, 10)), prediction)
    with pytest.raises(ValueError, match=r"\(5, 40, 50\).*\(4, 40, 50\)"):
        score_sequence(labels((1, 10)), labels((1, 10), frames=4))
