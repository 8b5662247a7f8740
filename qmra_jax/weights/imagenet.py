"""Initialises the encoders from an ImageNet ResNet, without PyTorch.

torchvision's files are resnet18-f37072fd.pth for the small model and resnet50-0676ba61.pth for the
paper's:

    curl -O https://download.pytorch.org/models/resnet50-0676ba61.pth
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.model import QMRA
from qmra_jax.weights.state_dict_files import check_state, read_state
from qmra_jax.weights.torch_names import to_torch, to_variables, torch_shapes

BATCH_NORM_EPS = 1e-5
EXTRA_CHANNEL = ("zeros", "random")

# Parts of the classifier that the encoders, which end at layer3, lack.
_UNUSED = ("layer4.", "fc.")


def load_encoders(
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    *,
    extra_channel: str = "zeros",
    seed: int = 0,
) -> dict[str, Any]:
    """Replaces the weights of every encoder by a ResNet's.

    Args:
      variables: `{"params": ..., "batch_stats": ...}` of the model.
      path: torchvision's state dict in a format of `read_state`; BatchNorms may be folded into
        their convolutions' weights and biases. `layer4` and `fc` are ignored.
      extra_channel: initial kernel of f_m's fourth input channel, the map: "zeros", or "random" for
        a normal distribution with the standard deviation of the RGB channels.
      seed: of the random channel.

    Returns:
      new variables; those of other modules are unchanged.

    Raises:
      InputError: if the file cannot be read or is of another network.
    """
    if extra_channel not in EXTRA_CHANNEL:
        raise InputError(
            f"extra_channel {extra_channel!r}: expected one of {', '.join(EXTRA_CHANNEL)}"
        )
    resnet = {k: v for k, v in read_state(path).items() if not k.startswith(_UNUSED)}
    if "conv1.bias" in resnet:
        resnet = _unfold_batch_norm(resnet)
    state = to_torch(variables)
    shapes = torch_shapes(variables)
    for encoder in (name for name in variables["params"] if name.endswith("_encoder")):
        prefix = f"{encoder}."
        expected = {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)}
        out, channels, *size = expected["conv1.weight"]
        expected["conv1.weight"] = (out, 3, *size)
        check_state(resnet, expected, what=f"{path}{_depth(resnet)}", examples=3)
        state |= {f"{prefix}{name}": resnet[name] for name in expected}
        conv1 = _add_channels(resnet["conv1.weight"], channels - 3, extra_channel, seed)
        state[f"{prefix}conv1.weight"] = conv1
    return to_variables(state, variables)


def check_encoders(model: QMRA, path: str | os.PathLike) -> None:
    """Raises `InputError` unless `load_encoders` can read the file for this model."""
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variable_shapes(model))
    load_encoders(zeros, path)


def _unfold_batch_norm(folded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns each convolution's bias into that of an otherwise neutral BatchNorm."""
    state = {}
    for name, array in folded.items():
        if not name.endswith(".bias"):
            state[name] = array
            continue
        norm = re.sub(r"downsample\.0\.bias$", "downsample.1", name)
        norm = re.sub(r"conv(\d)\.bias$", r"bn\1", norm)
        state[f"{norm}.weight"] = np.ones_like(array)
        state[f"{norm}.bias"] = array
        state[f"{norm}.running_mean"] = np.zeros_like(array)
        # sqrt(var + eps) is 1.
        state[f"{norm}.running_var"] = np.full(array.shape, 1 - BATCH_NORM_EPS, np.float32)
    return state


def _add_channels(kernel: np.ndarray, count: int, how: str, seed: int) -> np.ndarray:
    """OIHW `[o, 3, h, w]` -> `[o, 3 + count, h, w]`."""
    out, _, height, width = kernel.shape
    extra = np.zeros((out, count, height, width), kernel.dtype)
    if how == "random":
        values = np.random.default_rng(seed).normal(0, kernel.std(), extra.shape)
        extra = values.astype(kernel.dtype)
    return np.concatenate([kernel, extra], axis=1)


def _depth(resnet: Mapping[str, np.ndarray]) -> str:
    """The ResNet's depth for an error message, as a wrong depth is the most common mistake."""
    blocks = {tuple(name.split(".")[:2]) for name in resnet if name.startswith("layer")}
    bottleneck = "layer1.0.conv3.weight" in resnet
    depths = {(6, False): 18, (13, False): 34, (13, True): 50, (30, True): 101, (47, True): 152}
    depth = depths.get((len(blocks), bottleneck))
    return f" (a ResNet-{depth})" if depth else ""
