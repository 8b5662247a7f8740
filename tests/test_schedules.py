"""Step schedules."""

import pytest

from qmra_jax.errors import InputError
from qmra_jax.schedules import parse_frames, parse_shares, value_at


def test_the_value_is_that_of_the_last_pair_that_has_started():
    schedule = parse_frames("gap", [[0, 1], [10, 3], [20, 8]])
    assert schedule == ((0, 1), (10, 3), (20, 8))
    assert [value_at(schedule, step) for step in (0, 9, 10, 19, 20, 10**6)] == [1, 1, 3, 3, 8, 8]


@pytest.mark.parametrize(
    "value",
    [
        *((), 3, (0, 1), ((0.5, 1),), ("ab",)),
        *(((1, 1),), ((0, 1), (0, 1)), ((0, 1), (9, 1), (5, 1))),
        *(((0, -0.1),), ((0, 1.5),), ((0, float("nan")),)),
    ],
)
def test_bad_schedules_of_shares_are_refused(value):
    with pytest.raises(InputError, match="the_share="):
        parse_shares("the_share", value)


@pytest.mark.parametrize("value", [((0, 0),), ((0, 2.5),)])
def test_frames_are_whole_and_at_least_one(value):
    with pytest.raises(InputError, match="the_gap="):
        parse_frames("the_gap", value)
