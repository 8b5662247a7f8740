"""Learning rates over a run: a schedule is one function and one entry in `SCHEDULES`."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from qmra_jax.errors import InputError


def constant(peak: float, steps: int, config: Any) -> optax.Schedule:
    """The paper's fixed learning rate."""
    del steps, config
    return optax.constant_schedule(peak)


def linear_tail(peak: float, steps: int, config: Any) -> optax.Schedule:
    """Constant, then linearly to 0 over the last `config.decay_share` of the steps."""
    decay = round(steps * config.decay_share)
    return optax.join_schedules(
        [optax.constant_schedule(peak), optax.linear_schedule(peak, 0.0, max(decay, 1))],
        [steps - decay],
    )


def polynomial(peak: float, steps: int, config: Any) -> optax.Schedule:
    """peak (1 - step / steps)^power: DeepLab's "poly" (Chen et al. 2017), whose power is 0.9."""
    return optax.polynomial_schedule(peak, 0.0, config.power, max(steps, 1))


def cosine(peak: float, steps: int, config: Any) -> optax.Schedule:
    """Half a cosine down to 0."""
    del config
    return optax.cosine_decay_schedule(peak, max(steps, 1))


# Each: (peak, steps, config.optimizer) -> a schedule, before warm-up.
SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "linear_tail": linear_tail,
    "polynomial": polynomial,
    "cosine": cosine,
}


def make_schedule(config: Any, steps: int) -> optax.Schedule:
    """The learning rate of the decoders and aggregation at each step.

    Args:
      config: `config.optimizer`: schedule, learning_rate, warmup_steps (over which the rate rises
        linearly to what the schedule says), decay_share, power.
      steps: of the whole run.

    Raises:
      InputError: if there is no such schedule, or a number is out of range.
    """
    if config.schedule not in SCHEDULES:
        raise InputError(
            f"optimizer.schedule {config.schedule!r}: expected one of {', '.join(SCHEDULES)}"
        )
    for name, good, expected in (
        ("learning_rate", 0 < config.learning_rate < math.inf, "more than 0, and finite"),
        ("warmup_steps", config.warmup_steps >= 0, "0 or more steps"),
        ("decay_share", 0 <= config.decay_share <= 1, "0 to 1"),
        ("power", config.power > 0, "more than 0"),
    ):
        if not good:
            raise InputError(f"optimizer.{name} {config[name]}: expected {expected}")
    schedule = SCHEDULES[config.schedule](config.learning_rate, steps, config)
    warmup = config.warmup_steps

    def warmed_up(step):
        return schedule(step) * jnp.minimum(1.0, (step + 1) / max(warmup, 1))

    return warmed_up
