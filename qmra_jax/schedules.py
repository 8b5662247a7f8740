"""Step schedules: (from step, value) pairs, such as ((0, 0.2), (900, 0.6))."""

from collections.abc import Callable
from typing import Any, TypeVar

from qmra_jax.errors import InputError

Number = TypeVar("Number", int, float)
Schedule = tuple[tuple[int, Number], ...]


def parse_shares(name: str, value: Any) -> Schedule[float]:
    """Parses a schedule of shares in [0, 1].

    Args:
      name: of the setting, for the message.
      value: pairs, as a config or a command line gives them.

    Raises:
      InputError: unless the first pair is from step 0, steps rise and values are in range.
    """
    example = "(from step, share from 0 to 1), the first from step 0: ((0, 1.0), (1000, 0.6))"
    return _parse(name, value, float, lambda share: 0 <= share <= 1, example)


def parse_frames(name: str, value: Any) -> Schedule[int]:
    """Parses a schedule of numbers of frames, at least 1; otherwise as `parse_shares`."""
    example = "(from step, frames from 1 on), the first from step 0: ((0, 1), (1000, 5))"
    return _parse(name, value, int, lambda frames: frames >= 1, example)


def value_at(schedule: Schedule[Number], step: int) -> Number:
    """The value of the last pair that starts at or before `step`."""
    return [value for start, value in schedule if start <= step][-1]


def _parse(
    name: str, value: Any, kind: type[Number], is_valid: Callable[[Number], bool], example: str
) -> Schedule[Number]:
    try:
        schedule = tuple((int(start), kind(number)) for start, number in value)
        starts = [start for start, _ in schedule]
        valid = (
            schedule == tuple(map(tuple, value))  # nothing was rounded
            and starts[0] == 0
            and starts == sorted(set(starts))
            and all(is_valid(number) for _, number in schedule)
        )
    except (TypeError, ValueError, OverflowError, IndexError):
        valid = False
    if not valid:
        raise InputError(f"{name}={value}: expected pairs {example}")
    return schedule
