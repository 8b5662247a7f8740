"""Weights: one .safetensors file that rebuilds its model.

    module, variables, config = load("qmra-small.safetensors")
    save("copy.safetensors", variables, config, dtype="bfloat16")

The file holds the tensors under PyTorch's names and layouts, and in its metadata `format`
("qmra-jax"), `format_version`, `model` (the model's config as JSON) and what the caller adds.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import ml_collections

from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.network.model import QMRA
from qmra_jax.weights import frozen_features
from qmra_jax.weights.state_dict_files import (
    cast,
    check_state,
    read_metadata,
    read_safetensors,
    to_int8,
    write_safetensors,
)
from qmra_jax.weights.torch_names import to_torch, to_variables, torch_shapes

FORMAT, FORMAT_VERSION = "qmra-jax", "1"


def save(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    dtype: str | None = None,
    frozen_dtype: str | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes one file that `load` rebuilds the model from, whole or not at all.

    Args:
      path: ends in .safetensors.
      variables: `{"params": ..., "batch_stats": ...}`.
      config: the model's, as for `build_model` (`config.model` of a training config).
      dtype: "float32", "float16" or "bfloat16" of the stored weights; None keeps theirs.
      frozen_dtype: "int8" stores frozen features so, with a scale for each output channel and the
        digest of the ones given as `frozen_digest` in the metadata; None stores them as `dtype`.
      metadata: texts to store beside the config, such as the training command.
      overwrite: whether a file already there may be replaced.

    Raises:
      InputError: if the file exists, the variables are not this config's, a weight is too large
        for `dtype`, or there are no frozen features for `frozen_dtype`.
    """
    state = to_torch(variables)
    expected = torch_shapes(variable_shapes(build_model(config)))
    check_state(state, expected, what="variables", examples=3)
    extra = dict(metadata or {})
    features = {}
    if frozen_dtype is not None:
        if frozen_dtype != "int8" or "frozen" not in variables:
            kind = "has" if "frozen" in variables else "has no"
            raise InputError(
                f'frozen_dtype {frozen_dtype!r}: expected "int8", for a network with frozen'
                f" features; this one {kind} such"
            )
        features = {k: state.pop(k) for k in list(state) if k.startswith(frozen_features.PREFIX)}
        extra = {frozen_features.DIGEST: frozen_features.digest(variables["frozen"])} | extra
    if dtype is not None:
        state = {name: cast(name, array, dtype) for name, array in state.items()}
    state |= to_int8(features)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": _to_json(config)}
    wrong = [k for k, v in extra.items() if k in header or not isinstance(v, str)]
    if wrong:
        raise InputError(
            f"metadata {', '.join(map(repr, wrong))}: expected texts, under other names than"
            f" {', '.join(header)}, which the file uses itself"
        )
    write_safetensors(path, state, header | extra, overwrite=overwrite)


def load(path: str | os.PathLike) -> tuple[QMRA, dict[str, Any], ml_collections.ConfigDict]:
    """A model from a file that `save` wrote.

    Returns:
      the Linen module; its variables `{"params": ..., "batch_stats": ...}`, float32 whatever the
      file stores; and the model's config.

    Raises:
      InputError: if there is no such file, it is not a .safetensors, it says of no model, or its
        tensors are another model's than it says.
    """
    metadata = read_metadata(path)
    if "model" not in metadata:
        raise InputError(
            f"{path}: its metadata holds no model config, so save() did not write it; with the"
            " config at hand, use save(new_path, from_torch(read_state(path), config), config)"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {metadata.get('format_version')!r}, expected"
            f" {FORMAT_VERSION!r}; a newer qmra-jax may have written it"
        )
    try:
        config = ml_collections.ConfigDict(json.loads(metadata["model"]))
        module = build_model(config)
    except (ValueError, TypeError) as error:  # InputError is a ValueError
        raise InputError(f"{path}: the model config in its metadata: {error}") from error
    like = variable_shapes(module)
    return module, to_variables(read_safetensors(path), like, what=str(path), examples=3), config


def suited_short_side(path: str | os.PathLike) -> int | None:
    """The frame size that suits the weights, in pixels of the shorter side, if their file has one.

    It stands in the metadata as "short_side" (`qmra weights export --short-side`).
    """
    text = read_metadata(path).get("short_side", "")
    return int(text) if text.isdecimal() else None


def _to_json(config: Mapping[str, Any]) -> str:
    plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    try:
        return json.dumps(plain, sort_keys=True)
    except TypeError as error:
        raise InputError(f"model config {plain}: expected texts and numbers ({error})") from error
