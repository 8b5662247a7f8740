"""Settings that change along training: pairs (from step, value), the first from step 0."""

import math
from typing import Any, TypeVar

from qmra_jax.errors import InputError

Number = TypeVar("Number", int, float)
Schedule = tuple[tuple[int, Number], ...]
"""(from step, value) in ascending order of the steps."""


def parse_schedule(
    setting: str,
    given: Any,
    kind: type[Number],
    what: str,
    *,
    least: Number,
    most: float = math.inf,
) -> Schedule[Number]:
    """Reads a schedule from a config.

    Args:
      setting: its name, such as "data.max_gap".
      given: its value.
      kind: of the values.
      what: the values are, for the message: "frames, 1 or more".
      least: smallest value allowed.
      most: largest value allowed.

    Raises:
      InputError: if it is no such schedule.
    """
    try:
        schedule = tuple((int(start), kind(value)) for start, value in given)
        exact = all(pair == tuple(held) for pair, held in zip(schedule, given, strict=True))
    except (TypeError, ValueError, OverflowError):
        schedule, exact = (), False
    starts = [start for start, _ in schedule]
    ascending = starts[:1] == [0] and starts == sorted(set(starts))
    if not exact or not ascending or not all(least <= value <= most for _, value in schedule):
        raise InputError(
            f"{setting}={given}: expected pairs (from step, {what}), the first from step 0, such as"
            f" ((0, {least}), (1000, {kind(1)}))"
        )
    return schedule


def value_at(schedule: Schedule[Number], step: int) -> Number:
    """A schedule's value at a step: that of the last pair which has begun."""
    return [value for start, value in schedule if start <= step][-1]
