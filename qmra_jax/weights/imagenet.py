"""Initial weights of the encoders from an ImageNet ResNet.

Where such files come from: torchvision's own, resnet18-f37072fd.pth for the small model and
resnet50-0676ba61.pth for the paper's, both under https://download.pytorch.org/models/, for example

    curl -O https://download.pytorch.org/models/resnet50-0676ba61.pth

Nothing is ever downloaded from here, and PyTorch need not be installed.
"""

import os
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

# What a classifier has and an encoder, which ends at layer3, has not.
_UNUSED = ("layer4.", "fc.")


def load_encoders(
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    *,
    extra_channel: str = "zeros",
    seed: int = 0,
) -> dict[str, Any]:
    """The variables with every encoder's weights taken from a ResNet's file.

    Args:
      variables: `{"params": ..., "batch_stats": ...}` of the model, as its `init` gives them.
      path: torchvision's state dict as .pth, .safetensors, .npz or a folder of .npy, or the same
        with each BatchNorm folded into its convolution (which then has a bias; the BatchNorm's
        scale becomes 1, its bias that bias, its statistics those that change nothing). `layer4`
        and `fc`, which the encoders lack, are not read.
      extra_channel: how f_m's fourth input channel, the map's, starts: "zeros", so that it at first
        sees the image alone, or "random", normal with the RGB channels' standard deviation.
      seed: of the random channel.

    Returns:
      new variables; the rest of the model as it was.

    Raises:
      InputError: if the file cannot be read or is another network's.
    """
    check_extra_channel(extra_channel)
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


def check_extra_channel(extra_channel: str) -> None:
    """Raises `InputError` unless f_m's fourth input channel can start that way."""
    if extra_channel not in EXTRA_CHANNEL:
        raise InputError(
            f"extra_channel {extra_channel!r}: expected one of {', '.join(EXTRA_CHANNEL)}"
        )


def check_encoders(model: QMRA, path: str | os.PathLike) -> None:
    """Raises `InputError` unless `load_encoders` can use the file for this model."""
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variable_shapes(model))
    load_encoders(zeros, path)


def _unfold_batch_norm(folded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    state = {}
    for name, array in folded.items():
        if not name.endswith(".bias"):
            state[name] = array
            continue
        norm = _batch_norm_of(name.removesuffix(".bias"))
        state[f"{norm}.weight"] = np.ones_like(array)
        state[f"{norm}.bias"] = array
        state[f"{norm}.running_mean"] = np.zeros_like(array)
        # Such that sqrt(var + eps) is 1.
        state[f"{norm}.running_var"] = np.full(array.shape, 1 - BATCH_NORM_EPS, np.float32)
    return state


def _batch_norm_of(conv: str) -> str:
    """torchvision's name of the BatchNorm behind a convolution."""
    if conv.endswith("downsample.0"):
        return conv.removesuffix("0") + "1"
    block, _, name = conv.rpartition("conv")
    return f"{block}bn{name}"


def _add_channels(kernel: np.ndarray, count: int, how: str, seed: int) -> np.ndarray:
    """OIHW `[o, 3, h, w]` -> `[o, 3 + count, h, w]`."""
    out, _, height, width = kernel.shape
    extra = np.zeros((out, count, height, width), kernel.dtype)
    if how == "random":
        values = np.random.default_rng(seed).normal(0, kernel.std(), extra.shape)
        extra = values.astype(kernel.dtype)
    return np.concatenate([kernel, extra], axis=1)


def _depth(resnet: Mapping[str, np.ndarray]) -> str:
    """What the file is, as far as it shows: a wrong depth is the commonest mistake."""
    blocks = [
        len({name.split(".")[1] for name in resnet if name.startswith(f"layer{i}.")})
        for i in (1, 2, 3)
    ]
    bottleneck = "layer1.0.conv3.weight" in resnet
    known: dict[tuple, str] = {
        (2, 2, 2, False): "18",
        (3, 4, 6, False): "34",
        (3, 4, 6, True): "50",
        (3, 4, 23, True): "101",
        (3, 8, 36, True): "152",
    }
    depth = known.get((*blocks, bottleneck))
    return f" (a ResNet-{depth})" if depth else ""
