"""The moving average of a run's parameters, which often segments better than the last ones."""

import jax
import jax.numpy as jnp

from qmra_jax.errors import InputError


def check_decay(decay: float) -> None:
    """Raises `InputError` unless 0 <= decay < 1; 0 is for no average."""
    if not 0 <= decay < 1:
        raise InputError(f"ema_decay {decay}: expected 0 (no average) or up to 1, such as 0.999")


def decay_at(step, decay: float):
    """min(decay, (1 + t) / (10 + t)): a young average forgets its start (as TensorFlow's does).

    Args:
      step: t, the steps done before this one.
      decay: of a long run.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def update(average, params, step, decay: float):
    """The average after a step: d average + (1 - d) params, d = `decay_at(step, decay)`.

    Args:
      average: float32 tree.
      params: the same tree, after the step.
      step: the steps done before this one.
      decay: of a long run.
    """
    d = decay_at(step, decay)
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, params)
