"""What a step does with a gradient: learning rate, optimiser, moving average of the parameters.

A schedule is one function and one entry in `SCHEDULES`, an optimiser one in `OPTIMIZERS`. Settings
are those of `config.optimizer`, as `config_check` lets them pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

UNDECAYED = ("bias", "scale")  # of convolutions and linear layers; of BatchNorm


# ---------------------------------------------------------------- learning rate


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
    return optax.polynomial_schedule(peak, 0.0, config.power, steps)


def cosine(peak: float, steps: int, config: Any) -> optax.Schedule:
    """Half a cosine down to 0."""
    del config
    return optax.cosine_decay_schedule(peak, steps)


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
    """
    schedule = SCHEDULES[config.schedule](config.learning_rate, steps, config)
    warmup = config.warmup_steps

    def warmed_up(step):
        return schedule(step) * jnp.minimum(1.0, (step + 1) / max(warmup, 1))

    return warmed_up


# -------------------------------------------------------------------- optimiser


def adam(decay: optax.GradientTransformation, config: Any) -> optax.GradientTransformation:
    """Adam, its weight decay decoupled (AdamW: Loshchilov & Hutter 2019)."""
    del config
    return optax.chain(optax.scale_by_adam(), decay)


def sgd(decay: optax.GradientTransformation, config: Any) -> optax.GradientTransformation:
    """SGD with momentum, its weight decay part of the gradient, as in PyTorch's."""
    return optax.chain(decay, optax.trace(config.momentum) if config.momentum else optax.identity())


# Each: (weight decay, config.optimizer) -> gradients to a direction, before the learning rate.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": adam, "sgd": sgd}


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Clipping, then Adam or SGD with weight decay, then the learning rate of each part.

    Weight decay draws the kernels of convolutions and linear layers towards 0; biases and
    BatchNorm's scale and bias only with `decay_norm_and_bias`.

    Args:
      config: `config.optimizer`: name, learning_rate, encoder_scale (of the learning rate, for f_q
        and f_m), schedule and its numbers, warmup_steps, momentum, weight_decay,
        decay_norm_and_bias, clip_norm (of the whole gradient; 0 for none).
      steps: of the whole run.
    """

    def decayed(tree):
        return jax.tree.map_with_path(
            lambda path, _: config.decay_norm_and_bias or path[-1].key not in UNDECAYED, tree
        )

    def in_encoder(tree):
        return jax.tree.map_with_path(lambda path, _: path[0].key.endswith("_encoder"), tree)

    decay = (
        optax.add_decayed_weights(config.weight_decay, decayed)
        if config.weight_decay
        else optax.identity()
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        OPTIMIZERS[config.name](decay, config),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
        optax.masked(optax.scale(config.encoder_scale), in_encoder),
    )


# --------------------------------------------------------------- moving average


def ema_decay_at(step, decay: float):
    """min(decay, (1 + t) / (10 + t)): a young average forgets its start (as TensorFlow's does).

    Args:
      step: t, the steps done before this one.
      decay: of a long run.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def update_ema(average, params, step, decay: float):
    """The average after a step: d average + (1 - d) params, d = `ema_decay_at(step, decay)`.

    Args:
      average: float32 tree.
      params: the same tree, after the step.
      step: the steps done before this one.
      decay: of a long run.
    """
    d = ema_decay_at(step, decay)
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, params)
