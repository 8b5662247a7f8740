"""Settings that change with the steps: (from step, value) pairs, such as ((0, 0.2), (900, 0.6))."""

from collections.abc import Callable
from typing import Any, TypeVar

from qmra_jax.errors import InputError

Number = TypeVar("Number", int, float)
Schedule = tuple[tuple[int, Number], ...]


def parse_shares(name: str, value: Any) -> Schedule[float]:
    """A schedule of shares from 0 to 1.

    Args:
      name: of the setting, for the message.
      value: pairs, as a config or a command line gives them.

    Raises:
      InputError: unless the first pair is from step 0, the steps rise and the values are shares.
    """
    expected = (
        "(from step, share), from 0 to 1, the first from step 0, such as ((0, 1.0), (1000, 0.6))"
    )
    return _parse(name, value, float, lambda share: 0 <= share <= 1, expected)


def parse_frames(name: str, value: Any) -> Schedule[int]:
    """A schedule of whole numbers of frames, at least 1; the rest as `parse_shares`."""
    expected = (
        "(from step, frames), at least 1 frame, the first from step 0, such as ((0, 1), (1000, 5))"
    )
    return _parse(name, value, int, lambda frames: frames >= 1, expected)


def value_at(schedule: Schedule[Number], step: int) -> Number:
    """A schedule's value at a step: that of the last pair which has begun."""
    return [value for start, value in schedule if start <= step][-1]


def _parse(
    name: str, value: Any, kind: type[Number], is_good: Callable[[Number], bool], expected: str
) -> Schedule[Number]:
    try:
        schedule = tuple((int(start), kind(number)) for start, number in value)
        is_exact = schedule == tuple(tuple(pair) for pair in value)
    except (TypeError, ValueError, OverflowError):
        schedule, is_exact = (), False
    starts = [start for start, _ in schedule]
    if (
        not is_exact
        or starts[:1] != [0]
        or starts != sorted(set(starts))
        or not all(is_good(number) for _, number in schedule)
    ):
        raise InputError(f"{name}={value}: expected pairs {expected}")
    return schedule
