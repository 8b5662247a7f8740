"""Checks every setting of a run except the groups `config.model` and `config.data`.

Those two are checked where they are used, by `build_model` and `open_stream`, as train.py is not
their only user. So are files that a setting names, by whoever opens them. The type of a value needs
no check: ml_collections enforces it.
"""

import functools
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import jax

from qmra_jax.errors import InputError
from qmra_jax.schedules import parse_shares
from qmra_jax.training import key_projection, memory_maps, parallel, validation
from qmra_jax.training.optimizer import OPTIMIZERS, SCHEDULES
from qmra_jax.weights.imagenet import EXTRA_CHANNEL

Rule = tuple[Callable[[Any], bool], str]  # whether a value is valid; what is expected of it


def _at_least(least: float, note: str = "") -> Rule:
    return lambda value: value >= least, f"at least {least}{note}"


def _one_of(names: Collection[str]) -> Rule:
    return lambda value: value in names, f"one of {', '.join(names)}"


def _is_bootstrap(value: Any) -> bool:
    try:
        start, end, share = value
        return 0 <= start < end and 0 < share <= 1
    except (TypeError, ValueError):
        return not value


RULES: dict[str, Rule] = {
    "seed": (lambda seed: 0 <= seed < 2**63, "from 0 to 2^63 - 1"),
    "batch_size": _at_least(1),
    "steps": _at_least(1),
    "parallel": _one_of(parallel.WRAPPERS),
    "cpu_devices": _at_least(0),
    "grad_accumulation": _at_least(1),
    "ema_decay": (lambda decay: 0 <= decay < 1, "from 0 (no average) to below 1, such as 0.999"),
    "memory_maps": _one_of(memory_maps.MODES),
    "init.key_projection": _one_of(key_projection.MODES),
    "init.extra_channel": _one_of(EXTRA_CHANNEL),
    "loss.dice_weight": _at_least(0),
    "loss.bootstrap": (
        _is_bootstrap,
        "(start step, end step, final share of pixels), such as (20_000, 70_000, 0.15), or ()",
    ),
    "optimizer.name": _one_of(OPTIMIZERS),
    "optimizer.learning_rate": (lambda rate: 0 < rate < math.inf, "positive and finite"),
    "optimizer.encoder_scale": _at_least(0),
    "optimizer.schedule": _one_of(SCHEDULES),
    "optimizer.decay_share": (lambda share: 0 <= share <= 1, "from 0 to 1"),
    "optimizer.power": (lambda power: power > 0, "positive"),
    "optimizer.warmup_steps": _at_least(0),
    "optimizer.momentum": (lambda momentum: 0 <= momentum < 1, "from 0 to below 1"),
    "optimizer.weight_decay": _at_least(0),
    "optimizer.clip_norm": _at_least(0, " (0: no clipping)"),
    "log_every": _at_least(1),
    "picture_every": _at_least(1),
    "checkpoint_every": _at_least(1),
    "keep_checkpoints": _at_least(1),
    "keep_best": _at_least(0),
    "eval.every": _at_least(0, " (0: never)"),
    "eval.protocol": _one_of(validation.PROTOCOLS),
    "eval.short_side": (lambda side: side == 0 or side >= 16, "0 (never shrink) or at least 16"),
    "eval.interval": _at_least(1),
    "eval.max_sequences": _at_least(0, " (0: all)"),
    "eval.metric": _one_of(validation.METRICS),
}


def check(config: Any) -> None:
    """Checks the settings of a run; reads no file and does not initialise JAX.

    Args:
      config: a run's config, with the fields of `configs/common.py`.

    Raises:
      InputError: if a setting is invalid, or two contradict each other.
    """
    for name, (is_valid, expected) in RULES.items():
        value = functools.reduce(getattr, name.split("."), config)
        if not is_valid(value):
            raise InputError(f"{name} {value!r}: expected {expected}")
    parse_shares("predicted_share", config.predicted_share)
    _check_profile(config.profile, config.steps)
    if config.model.dtype == "float16":
        raise InputError(
            "model.dtype float16: gradients would underflow, as there is no loss scaling; train in"
            " bfloat16 or float32"
        )
    if config.init_from and config.init.encoders:
        raise InputError(
            f"init_from {config.init_from} and init.encoders {config.init.encoders}: expected only"
            " one of them, as init_from includes the encoders"
        )
    has_features = config.model.features != "none"
    if has_features and not config.init.features:
        raise InputError(
            f"model.features {config.model.features} needs its weights,"
            " --config.init.features=FILE: see `qmra weights import-dinov2 --help`"
        )
    if config.init.features and not has_features:
        raise InputError(
            f'init.features {config.init.features}: expected "" with model.features none'
        )


def check_batch(config: Any) -> None:
    """Checks that the batch divides evenly over all devices and micro-batches; initialises JAX.

    Raises:
      InputError: if it does not.
    """
    batch, parts, devices = config.batch_size, config.grad_accumulation, jax.device_count()
    if batch % (devices * parts):
        raise InputError(
            f"batch_size {batch} does not divide over {devices} devices with grad_accumulation"
            f" {parts}: give a multiple of {devices * parts}"
        )


def _check_profile(profile: str, steps: int) -> None:
    match = re.fullmatch(r"(\d+):(\d+)", profile)
    if profile and not (match and 1 <= int(match[1]) <= int(match[2]) <= steps):
        raise InputError(
            f"profile {profile!r}: expected FIRST:LAST, the first and last step to trace, from 1 to"
            f" {steps}, such as 100:110"
        )
