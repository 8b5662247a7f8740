"""Files of frozen features: the collection "frozen", which holds the arrays of one `DINOv2`.

Files have the names and layouts of Hugging Face's `facebook/dinov2-small`. Facebook's own
checkpoint can be imported, without PyTorch:

    curl -O https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth
    qmra weights import-dinov2 dinov2_vits14_pretrain.pth dinov2_vits14.safetensors --dtype float16
"""

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange

from qmra_jax.weights.state_dict_files import (
    cast,
    check_state,
    from_int8,
    read_state,
    write_safetensors,
)

NAME = "frozen_features"
PREFIX = "features."  # of the names in a QMRA weights file
DIGEST = "frozen_digest"  # metadata key in a file with int8 features

# Name in the collection -> Hugging Face's, and the change of layout.
_STEM = {
    "cls_token": ("embeddings.cls_token", "c -> 1 1 c"),
    "positions": ("embeddings.position_embeddings", "n c -> 1 n c"),
    "patch_kernel": ("embeddings.patch_embeddings.projection.weight", "(y x c) o -> o c y x"),
    "patch_bias": ("embeddings.patch_embeddings.projection.bias", "o -> o"),
    "norm_scale": ("layernorm.weight", "c -> c"),
    "norm_bias": ("layernorm.bias", "c -> c"),
}
# The same for blocks, which the collection stacks. Kernels [in, out] become [out, in]. The
# collection concatenates query, key and value as "qkv".
_BLOCK = {
    "norm1_scale": "norm1.weight",
    "norm1_bias": "norm1.bias",
    "query_kernel": "attention.attention.query.weight",
    "query_bias": "attention.attention.query.bias",
    "key_kernel": "attention.attention.key.weight",
    "key_bias": "attention.attention.key.bias",
    "value_kernel": "attention.attention.value.weight",
    "value_bias": "attention.attention.value.bias",
    "out_kernel": "attention.output.dense.weight",
    "out_bias": "attention.output.dense.bias",
    "layer_scale1": "layer_scale1.lambda1",
    "norm2_scale": "norm2.weight",
    "norm2_bias": "norm2.bias",
    "fc1_kernel": "mlp.fc1.weight",
    "fc1_bias": "mlp.fc1.bias",
    "fc2_kernel": "mlp.fc2.weight",
    "fc2_bias": "mlp.fc2.bias",
    "layer_scale2": "layer_scale2.lambda1",
}
_QKV = ("query", "key", "value")

# Not used: replaces masked patches in DINOv2's training.
_MASK_TOKEN = ("embeddings.mask_token", "mask_token")

# Facebook's names -> Hugging Face's, applied in order after `qkv` is split.
_FACEBOOK = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
)
_FACEBOOK_QKV = re.compile(r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$")


def to_names(frozen: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The collection under Hugging Face's names, in PyTorch's layouts.

    Args:
      frozen: the collection "frozen" of a `QMRA`.

    Returns:
      name -> a new array of the same dtype, sorted by name.
    """
    arrays = {name: np.asarray(array) for name, array in frozen[NAME].items()}
    for leaf in ("kernel", "bias"):
        parts = np.split(arrays.pop(f"qkv_{leaf}"), 3, axis=-1)
        arrays |= {f"{part}_{leaf}": x for part, x in zip(_QKV, parts, strict=True)}
    state = {}
    for name, (theirs, layout) in _STEM.items():
        side = round((arrays[name].shape[0] / 3) ** 0.5)
        sizes = {"y": side, "x": side} if name == "patch_kernel" else {}
        state[theirs] = rearrange(arrays[name], layout, **sizes)
    for name, theirs in _BLOCK.items():
        for layer, array in enumerate(arrays[name]):
            state[f"encoder.layer.{layer}.{theirs}"] = array.T
    return {name: np.array(array, order="C") for name, array in sorted(state.items())}


def from_names(
    state: Mapping[str, Any],
    like: Mapping[str, Any],
    *,
    what: str = "state",
    examples: int | None = None,
) -> dict[str, Any]:
    """The collection, float32, from arrays under Hugging Face's names or Facebook's.

    Args:
      state: name -> array, in PyTorch's layouts; a `mask_token` is ignored.
      like: the collection, or its shapes.
      what: see `check_state`.
      examples: see `check_state`.

    Raises:
      InputError: naming missing, unexpected and misshapen arrays, by Hugging Face's names.
    """
    state = {name: np.asarray(x) for name, x in state.items() if name not in _MASK_TOKEN}
    if "pos_embed" in state or any(name.startswith("blocks.") for name in state):
        state = _from_facebook(state)
    check_state(state, name_shapes(like), what=what, examples=examples)
    state = {name: array.astype(np.float32) for name, array in state.items()}
    tree = {}
    for name, (theirs, layout) in _STEM.items():
        here, _, there = layout.partition(" -> ")
        tree[name] = rearrange(state[theirs], f"{there} -> {here}")
    depth = like[NAME]["layer_scale1"].shape[0]
    for name, theirs in _BLOCK.items():
        tree[name] = np.stack([state[f"encoder.layer.{i}.{theirs}"].T for i in range(depth)])
    for leaf in ("kernel", "bias"):
        parts = [tree.pop(f"{part}_{leaf}") for part in _QKV]
        tree[f"qkv_{leaf}"] = np.concatenate(parts, axis=-1)
    return {NAME: {name: jnp.asarray(array) for name, array in tree.items()}}


def name_shapes(like: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Hugging Face's name -> shape, for the collection `like` or its shapes."""
    empty = {name: np.broadcast_to(np.int8(0), x.shape) for name, x in like[NAME].items()}
    return {name: array.shape for name, array in to_names({NAME: empty}).items()}


def load(path: str | os.PathLike, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the collection, as float32.

    Args:
      path: a file for `read_state` with Hugging Face's names or Facebook's, or a QMRA weights file
        with frozen features.
      like: the collection, or its shapes.

    Raises:
      InputError: if the file cannot be read or is of another network.
    """
    state = from_int8(read_state(path))
    inside = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    return from_names(inside or state, like, what=str(path), examples=3)


def save(
    path: str | os.PathLike,
    frozen: Mapping[str, Any],
    *,
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a .safetensors file with Hugging Face's names, atomically.

    Args:
      path: ends in .safetensors.
      frozen: the collection "frozen" of a `QMRA`.
      dtype: of the stored arrays: "float32", "float16" or "bfloat16".
      metadata: strings to store in addition to the `digest`.
      overwrite: whether to replace an existing file.

    Raises:
      InputError: if the file exists or a number overflows in `dtype`.
    """
    state = {name: cast(name, array, dtype) for name, array in to_names(frozen).items()}
    header = {"digest": _digest(state), **(metadata or {})}
    write_safetensors(path, state, header, overwrite=overwrite)


def digest(frozen: Mapping[str, Any] | None) -> str:
    """SHA-256 (hexadecimal) that identifies frozen features; "" for None.

    Computed from the arrays rounded to float16, so that files in float32 and float16 have the same
    digest (bfloat16 and int8 round more).
    """
    return _digest(to_names(frozen)) if frozen else ""


def _digest(state: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, array in sorted(state.items()):
        total.update(f"{name} {list(array.shape)}\n".encode())
        total.update(array.astype("<f2").tobytes())
    return total.hexdigest()


def _from_facebook(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Facebook's names -> Hugging Face's; other names are kept."""
    renamed = {}
    for name, array in state.items():
        fused = _FACEBOOK_QKV.match(name)
        if fused and array.shape and array.shape[0] % 3 == 0:
            layer, leaf = fused.groups()
            for part, third in zip(_QKV, np.split(array, 3), strict=True):
                renamed[f"encoder.layer.{layer}.attention.attention.{part}.{leaf}"] = third
            continue
        for pattern, theirs in _FACEBOOK:
            name = re.sub(pattern, theirs, name)
        renamed[name] = array
    return renamed
