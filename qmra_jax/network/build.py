"""Builds the network from a config, and its variables."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from qmra_jax.errors import InputError
from qmra_jax.network import batch_norm, variants
from qmra_jax.network.aggregation import AGGREGATORS
from qmra_jax.network.dinov2 import FEATURES
from qmra_jax.network.memory_read import READERS
from qmra_jax.network.model import QMRA
from qmra_jax.network.priors import PRIORS
from qmra_jax.network.refinement import REFINERS
from qmra_jax.network.resnet import BACKBONES

# Attribute -> its allowed values.
CHOICES = {
    "backbone": tuple(BACKBONES),
    "stages": (1, 2),
    "align": ("box", "mask"),
    "siamese": (True, False),
    "kv_kernel": (1, 3),
    "dtype": ("float32", "bfloat16", "float16"),
    "batch_norm": batch_norm.MODES,
    "remat": ("none", "encoders", "all"),
}
# Attribute -> the table of variants that it names, with options.
VARIANTS: dict[str, Mapping[str, Any]] = {
    "reader": READERS,
    "aggregator": AGGREGATORS,
    "prior": PRIORS,
    "refine": REFINERS,
    "features": FEATURES,
}


def build_model(config: Mapping[str, Any]) -> QMRA:
    """Builds the network that `config.model` describes.

    Args:
      config: `QMRA`'s attributes -> values; those left out keep the paper's values.

    Raises:
      InputError: if a key, a value or a variant is unknown.
    """
    known = QMRA.__dataclass_fields__.keys() - {"parent", "name", "stats_axis", "inference"}
    unknown = sorted(set(config) - known)
    if unknown:
        raise InputError(
            f"model config has no {', '.join(unknown)}: expected {', '.join(sorted(known))}"
        )
    model = QMRA(**config)
    for name in ("key_dim", "value_dim", "decoder_dim"):
        width = getattr(model, name)
        if not isinstance(width, int) or width < 1:
            raise InputError(f"model {name} {width!r}: expected an integer of at least 1")
    for name, values in CHOICES.items():
        value = getattr(model, name)
        if value not in values or type(value) is not type(values[0]):  # 1 == True
            listed = ", ".join(map(str, values))
            raise InputError(f"model {name} {value!r}: expected one of {listed}")
    # Fail now rather than in `setup`, when the module is first applied.
    for name, table in VARIANTS.items():
        variants.choose(name, table, getattr(model, name))
    refiner = model.refine.partition(":")[0]
    if model.stages == 1 and (not model.siamese or refiner == "crm_no_coord"):
        raise InputError(
            f"model siamese={model.siamese}, refine={refiner} with stages=1: both concern stage 2;"
            " keep siamese=True and refine=crm or none"
        )
    return model


def plugins_of(config: Mapping[str, Any]) -> list[str]:
    """Modules outside this package that define the variants of a valid `config.model`."""
    modules = {entry.__module__ for entry in _entries(QMRA(**config))}
    return sorted(name for name in modules if not name.startswith("qmra_jax."))


def _entries(model: nn.Module) -> tuple[Any, ...]:
    """The entries of `VARIANTS` that a model uses; a stand-in for `QMRA` may have none."""
    names = {kind: getattr(model, kind, "").partition(":")[0] for kind in VARIANTS}
    return tuple(VARIANTS[kind].get(name) for kind, name in names.items())


def variable_shapes(model: QMRA) -> dict[str, Any]:
    """The model's variables as `jax.ShapeDtypeStruct`s, without computing them."""
    shapes = _variable_shapes(model, _entries(model))
    return jax.tree.map(lambda leaf: leaf, shapes)  # dicts that the caller may change


@functools.cache  # tracing takes a second
def _variable_shapes(model: QMRA, entries: tuple[Any, ...]) -> dict[str, Any]:
    return jax.eval_shape(model.init, jax.random.key(0), *_blank_inputs())


def init_variables(model: QMRA, seed: int = 0) -> dict[str, Any]:
    """Initial variables: `{"params", "batch_stats"}`, and "frozen" if the model has features."""
    return jax.jit(model.init)(jax.random.key(seed), *_blank_inputs())


def _blank_inputs() -> tuple[jax.Array, jax.Array, jax.Array]:
    """The smallest valid inputs; the variables do not depend on their size."""
    images, maps = jnp.zeros((1, 1, 16, 16, 3)), jnp.zeros((1, 1, 16, 16, 1))
    return images[:, 0], images, maps
