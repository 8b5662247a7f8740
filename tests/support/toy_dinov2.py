"""A tiny DINOv2: random weights under Hugging Face's names and as the collection "frozen"."""

import math

import jax
import numpy as np

from qmra_jax.network.dinov2 import DINOv2
from qmra_jax.weights.frozen_features import NAME, from_names, name_shapes

TOY = DINOv2(width=24, depth=2, heads=2, grid=5)
TOY_SPEC = "dinov2_vits14:width=24,depth=2,heads=2,grid=5"  # a value of config.model.features
LIKE = {NAME: {name: jax.ShapeDtypeStruct(x, np.float32) for name, x in TOY.shapes().items()}}


def random_state(seed=0):
    """Hugging Face's names -> random weights of a trained network's scale."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in name_shapes(LIKE).items():
        array = rng.standard_normal(shape)
        if name.endswith("weight") and array.ndim > 1:
            array *= 1.5 / math.sqrt(array[0].size)
        elif "norm" in name or "lambda1" in name:
            array = 0.3 * array + (not name.endswith("bias"))
        state[name] = array.astype(np.float32)
    return state


STATE = random_state()
FROZEN = from_names(STATE, LIKE)
