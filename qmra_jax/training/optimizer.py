"""Learning rate, optimiser, and moving average of the parameters.

A schedule is one function and its entry in `SCHEDULES`; an optimiser, one in `OPTIMIZERS`. The
settings are those of `config.optimizer`, validated by `config_check`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

UNDECAYED = ("bias", "scale")  # of convolutions and linear layers; of BatchNorm


# ---------------------------------------------------------------- learning rate


def linear_tail(peak: float, steps: int, config: Any) -> optax.Schedule:
    """Constant, then linear to 0 over the last `config.decay_share` of the steps."""
    decay = round(steps * config.decay_share)
    return optax.join_schedules(
        [optax.constant_schedule(peak), optax.linear_schedule(peak, 0.0, max(decay, 1))],
        [steps - decay],
    )


def polynomial(peak: float, steps: int, config: Any) -> optax.Schedule:
    """peak (1 - step / steps)^power: the "poly" schedule of DeepLab (Chen et al. 2017)."""
    return optax.polynomial_schedule(peak, 0.0, config.power, steps)


# (peak, steps, config.optimizer) -> schedule without warm-up.
SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": lambda peak, steps, config: optax.constant_schedule(peak),  # the paper's
    "linear_tail": linear_tail,
    "polynomial": polynomial,
    "cosine": lambda peak, steps, config: optax.cosine_decay_schedule(peak, steps),
}


def make_schedule(config: Any, steps: int) -> optax.Schedule:
    """The learning rate of all parts but the encoders, at each of `steps` steps.

    Over the first `warmup_steps` steps the scheduled rate is scaled by a factor that rises linearly
    to 1.
    """
    schedule = SCHEDULES[config.schedule](config.learning_rate, steps, config)

    def warmed_up(step):
        return schedule(step) * jnp.minimum(1.0, (step + 1) / max(config.warmup_steps, 1))

    return warmed_up


# -------------------------------------------------------------------- optimiser


def adam(decay: optax.GradientTransformation, config: Any) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (AdamW: Loshchilov & Hutter 2019)."""
    del config
    return optax.chain(optax.scale_by_adam(), decay)


def sgd(decay: optax.GradientTransformation, config: Any) -> optax.GradientTransformation:
    """SGD with momentum; weight decay is added to the gradient, as in PyTorch."""
    return optax.chain(decay, optax.trace(config.momentum) if config.momentum else optax.identity())


# (weight decay, config.optimizer) -> transformation from gradients to unscaled updates.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": adam, "sgd": sgd}


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Clips by the global norm, applies Adam or SGD with weight decay, scales by the learning rate.

    The encoders f_q and f_m learn at `encoder_scale` times the rate. Weight decay applies to
    kernels, and to biases and BatchNorm's parameters only with `decay_norm_and_bias`.
    """

    def is_decayed(tree):
        return jax.tree.map_with_path(
            lambda path, _: config.decay_norm_and_bias or path[-1].key not in UNDECAYED, tree
        )

    def in_encoder(tree):
        return jax.tree.map_with_path(lambda path, _: path[0].key.endswith("_encoder"), tree)

    decay = (
        optax.add_decayed_weights(config.weight_decay, is_decayed)
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
    """min(decay, (1 + t) / (10 + t)) at step t: an early average soon forgets the initial weights.

    TensorFlow's `ExponentialMovingAverage` does the same.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def update_ema(average, params, step, decay: float):
    """The new average d average + (1 - d) params, with d = `ema_decay_at(step, decay)`.

    Args:
      average: float32 tree.
      params: the same tree, after the step.
      step: number of steps done before this one.
      decay: limit of d.
    """
    d = ema_decay_at(step, decay)
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, params)
