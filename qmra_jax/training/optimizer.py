"""The optimiser of a config: the paper's Adam, and what other recipes of the field want."""

from typing import Any

import jax
import optax

from qmra_jax.errors import InputError
from qmra_jax.training.schedules import make_schedule

UNDECAYED = ("bias", "scale")  # of convolutions and linear layers; of BatchNorm


def adam(decay: optax.GradientTransformation, config: Any) -> optax.GradientTransformation:
    """Adam, its weight decay decoupled (AdamW: Loshchilov & Hutter 2019)."""
    del config
    return optax.chain(optax.scale_by_adam(), decay)


def sgd(decay: optax.GradientTransformation, config: Any) -> optax.GradientTransformation:
    """SGD with momentum, its weight decay part of the gradient, as in PyTorch's."""
    return optax.chain(decay, optax.trace(config.momentum) if config.momentum else optax.identity())


# Each: (weight decay, config.optimizer) -> gradients to a direction, before the learning rate.
OPTIMIZERS = {"adam": adam, "sgd": sgd}


def make_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Clipping, then Adam or SGD with weight decay, then the learning rate of each part.

    Weight decay draws the kernels of convolutions and linear layers towards 0; biases and
    BatchNorm's scale and bias only with `decay_norm_and_bias`.

    Args:
      config: `config.optimizer`: name, learning_rate, encoder_scale (of the learning rate, for f_q
        and f_m), schedule and its numbers, warmup_steps, momentum, weight_decay,
        decay_norm_and_bias, clip_norm (of the whole gradient; 0 for none).
      steps: of the whole run.

    Raises:
      InputError: if there is no such optimiser or schedule, or a number is out of range.
    """
    if config.name not in OPTIMIZERS:
        raise InputError(f"optimizer.name {config.name!r}: expected one of {', '.join(OPTIMIZERS)}")
    if not 0 <= config.momentum < 1:
        raise InputError(f"optimizer.momentum {config.momentum}: expected 0 up to 1, without 1")
    for name in ("encoder_scale", "weight_decay", "clip_norm"):
        if not config[name] >= 0:
            raise InputError(f"optimizer.{name} {config[name]}: expected 0 or more")

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
