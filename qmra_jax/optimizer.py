"""The optimiser of a config: the paper's Adam, and what training from less data wants beside it."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from qmra_jax.errors import InputError

ENCODERS = ("query_encoder", "memory_encoder")


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


def cosine(peak: float, steps: int, config: Any) -> optax.Schedule:
    """Half a cosine down to 0."""
    del config
    return optax.cosine_decay_schedule(peak, max(steps, 1))


# Each: (peak, steps, config.optimizer) -> a schedule, before warm-up.
SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "linear_tail": linear_tail,
    "cosine": cosine,
}


def make_schedule(config: Any, steps: int) -> optax.Schedule:
    """The learning rate of the decoders and aggregation at each step.

    Args:
      config: `config.optimizer`.
      steps: of the whole run.

    Raises:
      InputError: if there is no such schedule.
    """
    if config.schedule not in SCHEDULES:
        raise InputError(
            f"optimizer.schedule {config.schedule!r}: expected one of {', '.join(SCHEDULES)}"
        )
    schedule = SCHEDULES[config.schedule](config.learning_rate, steps, config)
    warmup = config.warmup_steps

    def warmed_up(step):
        return schedule(step) * jax.numpy.minimum(1.0, (step + 1) / max(warmup, 1))

    return warmed_up


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (none by default), clipping and its own rate for encoders.

    Args:
      config: `config.optimizer`: learning_rate, encoder_scale (of the learning rate, for f_q and
        f_m), schedule, warmup_steps, weight_decay, clip_norm (0 for none).
      steps: of the whole run.
    """
    scale_encoders = optax.masked(
        optax.scale(config.encoder_scale),
        lambda tree: {
            name: jax.tree.map(lambda _, inside=name in ENCODERS: inside, branch)
            for name, branch in tree.items()
        },
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
        scale_encoders,
    )
