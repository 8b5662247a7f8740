"""DINOv2's arrays under Hugging Face's names, as `facebook/dinov2-small` has them, and back.

Files may have those names, or the ones of Facebook's own checkpoint (`dinov2_vits14_pretrain.pth`):

    curl -O https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth
    qmra weights import-dinov2 dinov2_vits14_pretrain.pth dinov2_vits14.safetensors --dtype float16

Nothing is ever downloaded from here, and PyTorch need not be installed.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange

from qmra_jax.network.dinov2 import DINOv2
from qmra_jax.weights.state_dict_files import cast, check_state, read_state, write_safetensors

# Part of a name in "frozen" -> its module at Hugging Face; a block's follow `encoder.layer.N.`.
_BLOCK = {
    "norm1": "norm1",
    "out": "attention.output.dense",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
PREFIX = "features."  # of the names in a QMRA weights file
_QKV = ("query", "key", "value")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}

# What both files have and nothing here uses: it stands for masked patches in training.
_UNUSED = ("embeddings.mask_token", "mask_token")

# Facebook's names -> Hugging Face's, in order; `qkv` is cut in three beside this.
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


def to_names(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays under Hugging Face's names, in PyTorch's layouts.

    Args:
      tree: the collection "frozen" of a `DINOv2`.

    Returns:
      name -> a new array of the array's own dtype, sorted by name; without `mask_token`.
    """
    arrays = {name: np.asarray(array) for name, array in tree.items()}
    width = arrays["cls_token"].shape[0]
    patch = round((arrays["patch_kernel"].shape[0] / 3) ** 0.5)
    kernel = rearrange(arrays["patch_kernel"], "(y x c) o -> o c y x", y=patch, x=patch)
    state = {
        "embeddings.cls_token": arrays["cls_token"][None, None],
        "embeddings.position_embeddings": arrays["positions"][None],
        "embeddings.patch_embeddings.projection.weight": kernel,
        "embeddings.patch_embeddings.projection.bias": arrays["patch_bias"],
        "layernorm.weight": arrays["norm_scale"],
        "layernorm.bias": arrays["norm_bias"],
    }
    for layer in range(arrays["qkv_kernel"].shape[0]):
        block = f"encoder.layer.{layer}"
        for i, part in enumerate(_QKV):
            of_part = slice(i * width, (i + 1) * width)
            name = f"{block}.attention.attention.{part}"
            state[f"{name}.weight"] = arrays["qkv_kernel"][layer][:, of_part].T
            state[f"{name}.bias"] = arrays["qkv_bias"][layer][of_part]
        for i in (1, 2):
            state[f"{block}.layer_scale{i}.lambda1"] = arrays[f"layer_scale{i}"][layer]
        for ours, theirs in _BLOCK.items():
            for leaf in ("kernel", "scale", "bias"):
                if f"{ours}_{leaf}" in arrays:
                    array = arrays[f"{ours}_{leaf}"][layer]
                    state[f"{block}.{theirs}.{_LEAVES[leaf]}"] = array.T
    return {name: np.array(array, order="C") for name, array in sorted(state.items())}


def from_names(
    state: Mapping[str, Any], module: DINOv2, *, what: str = "state", examples: int = 0
) -> dict[str, Any]:
    """The collection "frozen" of the module, from arrays under either kind of names.

    Args:
      state: Hugging Face's or Facebook's names -> array, in PyTorch's layouts; `mask_token` may be
        there and is not kept.
      module: the `DINOv2` that they are for.
      what: what `state` is, for the message.
      examples: how many names of a kind the message has at most; 0 for every one.

    Returns:
      name -> float32 array, of `module.shapes()`.

    Raises:
      InputError: naming the missing, unexpected and misshapen arrays, by Hugging Face's names.
    """
    state = {name: np.asarray(x) for name, x in state.items() if name not in _UNUSED}
    if "pos_embed" in state or any(name.startswith("blocks.") for name in state):
        state = from_facebook(state)
    check_state(state, name_shapes(module), what=what, examples=examples)
    state = {name: array.astype(np.float32) for name, array in state.items()}

    def stacked(pattern: str) -> np.ndarray:
        return np.stack([state[f"encoder.layer.{i}.{pattern}"] for i in range(module.depth)])

    kernel = state["embeddings.patch_embeddings.projection.weight"]
    attention = "attention.attention."
    tree = {
        "cls_token": state["embeddings.cls_token"][0, 0],
        "positions": state["embeddings.position_embeddings"][0],
        "patch_kernel": rearrange(kernel, "o c y x -> (y x c) o"),
        "patch_bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm_scale": state["layernorm.weight"],
        "norm_bias": state["layernorm.bias"],
    }
    for leaf in ("weight", "bias"):
        parts = [stacked(f"{attention}{part}.{leaf}") for part in _QKV]
        fused = np.concatenate(parts, axis=1)
        name = "qkv_bias" if leaf == "bias" else "qkv_kernel"
        tree[name] = fused if leaf == "bias" else fused.swapaxes(1, 2)
    for i in (1, 2):
        tree[f"layer_scale{i}"] = stacked(f"layer_scale{i}.lambda1")
    for name in module.block_shapes().keys() - tree.keys():
        module_name, _, leaf = name.partition("_")
        array = stacked(f"{_BLOCK[module_name]}.{_LEAVES[leaf]}")
        tree[name] = array.swapaxes(1, 2) if leaf == "kernel" else array
    return {name: jnp.asarray(tree[name]) for name in module.shapes()}


def from_facebook(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Facebook's names under Hugging Face's; a name that is neither stays as it is."""
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


def name_shapes(module: DINOv2) -> dict[str, tuple[int, ...]]:
    """Hugging Face's name -> shape of each array of the module."""
    # Of one byte that every place shares: nothing of the arrays' size is made before it is copied.
    empty = {k: np.broadcast_to(np.int8(0), shape) for k, shape in module.shapes().items()}
    return {name: array.shape for name, array in to_names(empty).items()}


def module_like(tree: Mapping[str, Any]) -> DINOv2:
    """A `DINOv2` whose arrays have the shapes of this collection's; its heads are not known."""
    width, hidden = tree["fc1_kernel"].shape[1:]
    return DINOv2(
        width=width,
        depth=tree["qkv_kernel"].shape[0],
        heads=1,
        mlp_ratio=hidden // width,
        patch=round((tree["patch_kernel"].shape[0] / 3) ** 0.5),
        grid=round((tree["positions"].shape[0] - 1) ** 0.5),
    )


def load_features(path: str | os.PathLike, module: DINOv2) -> dict[str, Any]:
    """The collection "frozen" of the module, from a file.

    Args:
      path: of the kinds that `read_state` knows, with Hugging Face's names or Facebook's; or a
        QMRA weights file that holds such features.
      module: the `DINOv2` that it is for.

    Returns:
      name -> float32 array, whatever the file stores.

    Raises:
      InputError: if the file cannot be read or is another network's.
    """
    state = read_state(path)
    inside = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    return from_names(inside or state, module, what=str(path), examples=3)


def save_features(
    path: str | os.PathLike,
    tree: Mapping[str, Any],
    *,
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a .safetensors with Hugging Face's names, whole or not at all.

    Args:
      path: ends in .safetensors.
      tree: the collection "frozen" of a `DINOv2`.
      dtype: "float32", "float16" or "bfloat16" of the stored arrays.
      metadata: texts to store beside the `digest` of what is stored.
      overwrite: whether a file already there may be replaced.

    Raises:
      InputError: if the file exists, or a number is too large for `dtype`.
    """
    state = {name: cast(name, array, dtype) for name, array in to_names(tree).items()}
    header = {"digest": _digest(state), **(metadata or {})}
    write_safetensors(path, state, header, overwrite=overwrite)


def digest(tree: Mapping[str, Any]) -> str:
    """64 hexadecimal digits that tell one network's arrays from another's.

    They are of the arrays rounded to float16 under Hugging Face's names, and so the same whether
    the file that the arrays came from stores float32 or float16 (bfloat16 rounds more).

    Args:
      tree: the collection "frozen" of a `DINOv2`.
    """
    return _digest(to_names(tree))


def _digest(state: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, array in sorted(state.items()):
        total.update(f"{name} {list(array.shape)}\n".encode())
        total.update(array.astype(np.float16).astype("<f2").tobytes())
    return total.hexdigest()
