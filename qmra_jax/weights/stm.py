"""Converts the official STM checkpoint (github.com/seoungwugoh/STM; Oh et al., ICCV 2019).

The networks differ in two respects. STM concatenates the memory's read-out before the query's
value, ours the query first. STM's memory encoder has a first convolution for each of image, mask
and the other objects' mask; ours has one for image and mask, so the conversion is exact for one
object.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.network.resnet import IMAGENET_MEAN, IMAGENET_STD
from qmra_jax.weights.state_dict_files import check_state
from qmra_jax.weights.torch_names import torch_shapes

# The variant of QMRA that is STM, as in configs/stm.py; the widths are read from the file.
STM_MODEL = {
    "stages": 1,
    "align": "mask",
    "reader": "dot",
    "aggregator": "none",
    "kv_kernel": 3,
    "prior": "odds",
    "refine": "none",
}

# The other objects' mask: not converted.
OTHERS = "Encoder_M.conv1_o.weight"

# Our parts of a name -> STM's, where they differ.
_PARTS = {
    "memory_encoder": "Encoder_M",
    "query_encoder": "Encoder_Q",
    "layer1": "res2",
    "layer2": "res3",
    "layer3": "res4",
    "memory_kv": "KV_M_r4",
    "query_kv": "KV_Q_r4",
    "key": "Key",
    "value": "Value",
    "mask_decoder": "Decoder",
    "conv_in": "convFM",
    "block": "ResMM",
    "refine3": "RF3",
    "refine2": "RF2",
    "skip_conv": "convFS",
    "skip_block": "ResFS",
    "merge_block": "ResMM",
    "pred": "pred2",
}
_STEM, _MASK_STEM = "memory_encoder.conv1.weight", "Encoder_M.conv1_m.weight"
_READ_OUT_FIRST = "mask_decoder.conv_in.weight"


def from_stm(state: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Converts STM's state dict.

    Args:
      state: STM's names (without DataParallel's `module.`) -> array, in PyTorch's layouts. `OTHERS`
        is ignored; the encoders' `mean` and `std` must be ImageNet's.

    Returns:
      our torch names -> array, for `from_torch`; and the config for `build_model`.

    Raises:
      InputError: naming missing, unexpected and misshapen arrays, by STM's names.
    """
    config = stm_config(state)
    ours = torch_shapes(variable_shapes(build_model(config)))
    expected = {stm_name(name): shape for name, shape in ours.items()}
    out, _, *size = ours[_STEM]
    expected |= {stm_name(_STEM): (out, 3, *size), _MASK_STEM: (out, 1, *size)}
    state = {name: np.asarray(array) for name, array in state.items()}
    _drop_normalisation(state)
    state.pop(OTHERS, None)
    check_state(state, expected, what="STM's state dict", examples=3)
    converted = {name: state[stm_name(name)] for name in ours}
    converted[_STEM] = np.concatenate([state[stm_name(_STEM)], state[_MASK_STEM]], axis=1)
    read_out, query = np.split(converted[_READ_OUT_FIRST], 2, axis=1)
    converted[_READ_OUT_FIRST] = np.concatenate([query, read_out], axis=1)
    return converted, config


def stm_name(name: str) -> str:
    """`"query_encoder.layer1.0.conv1.weight"` -> `"Encoder_Q.res2.0.conv1.weight"`."""
    return ".".join(_PARTS.get(part, part) for part in name.removeprefix("qma1.").split("."))


def stm_config(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The model's config, from the shapes of STM's arrays; default widths for missing ones."""

    def width(name: str, default: int) -> int:
        shape = np.shape(state[name]) if name in state else ()
        return int(shape[0]) if len(shape) == 4 else default

    shallow = "Encoder_Q.conv1.weight" in state and "Encoder_Q.res2.0.conv3.weight" not in state
    return {
        **STM_MODEL,
        "backbone": "resnet18" if shallow else "resnet50",
        "key_dim": width("KV_Q_r4.Key.weight", 128),
        "value_dim": width("KV_Q_r4.Value.weight", 512),
        "decoder_dim": width("Decoder.convFM.weight", 256),
    }


def _drop_normalisation(state: dict[str, np.ndarray]) -> None:
    """Removes the encoders' `mean` and `std` after checking that they are ImageNet's."""
    for encoder in ("Encoder_M", "Encoder_Q"):
        for name, ours in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            theirs = state.pop(f"{encoder}.{name}", np.asarray(ours)).ravel()
            if theirs.shape != (3,) or not np.allclose(theirs, ours, atol=1e-6):
                raise InputError(
                    f"STM's {encoder}.{name} is {theirs.tolist()}: expected ImageNet's {list(ours)}"
                )
