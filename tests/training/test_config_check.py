"""The valid range of each setting, and contradicting settings."""

import re

import pytest

from configs import common
from qmra_jax.errors import InputError
from qmra_jax.training import config_check

AT_LEAST_1 = (
    *("batch_size", "steps", "grad_accumulation", "log_every", "picture_every"),
    *("checkpoint_every", "keep_checkpoints", "eval.interval"),
)
AT_LEAST_0 = (
    *("seed", "cpu_devices", "keep_best", "loss.dice_weight", "eval.every", "eval.max_sequences"),
    *("optimizer.encoder_scale", "optimizer.warmup_steps", "optimizer.weight_decay"),
    "optimizer.clip_norm",
)
CHOICES = (
    *("parallel", "memory_maps", "init.key_projection", "init.extra_channel"),
    *("optimizer.name", "optimizer.schedule", "eval.protocol", "eval.metric"),
)
BAD = {
    **dict.fromkeys(AT_LEAST_1, (0,)),
    **dict.fromkeys(AT_LEAST_0, (-1,)),
    **dict.fromkeys(CHOICES, ("unknown",)),
    "ema_decay": [-0.1, 1.0, float("nan")],
    "predicted_share": [((5, 0.5),)],
    "loss.bootstrap": [(0, 5), (9, 3, 0.1), (5, 5, 0.5), (0, 5, 0.0)],
    "optimizer.learning_rate": [0.0, float("inf")],
    "optimizer.decay_share": [1.5],
    "optimizer.power": [0.0],
    "optimizer.momentum": [1.0],
    "profile": ["3", "8:100001", "5:3"],
    "eval.short_side": [8, -1],
    "model.dtype": ["float16"],
}


def config(**values):
    settings = common.get_config()
    settings.update_from_flattened_dict(values)
    return settings


@pytest.mark.parametrize(("name", "value"), [(n, x) for n, values in BAD.items() for x in values])
def test_invalid_setting_is_named_with_its_value(name, value):
    with pytest.raises(InputError, match=f"^{re.escape(name)}.*{re.escape(str(value))}"):
        config_check.check(config(**{name: value}))


def test_every_setting_with_a_range_is_tested_here():
    assert set(config_check.RULES) <= set(BAD)
    config_check.check(config(profile="3:5", **{"loss.bootstrap": (1, 3, 0.1)}))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"init_from": "runs/a", "init.encoders": "resnet18.pth"}, "runs/a.*resnet18.pth"),
        ({"model.features": "dinov2_vits14"}, "init.features"),
        ({"init.features": "dinov2.safetensors"}, "dinov2.safetensors"),
    ],
)
def test_contradicting_settings_are_refused(values, named):
    with pytest.raises(InputError, match=named):
        config_check.check(config(**values))


def test_batch_that_devices_cannot_share_evenly_is_refused():
    config_check.check_batch(config(batch_size=8, grad_accumulation=4))
    for batch, parts, multiple in ((3, 1, 2), (4, 4, 8)):
        with pytest.raises(InputError, match=f"batch_size {batch} .*multiple of {multiple}"):
            config_check.check_batch(config(batch_size=batch, grad_accumulation=parts))
