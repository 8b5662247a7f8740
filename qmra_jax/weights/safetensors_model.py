"""Weights files: a .safetensors file with the config that rebuilds its model.

    module, variables, config = load("qmra-small.safetensors")
    save("copy.safetensors", variables, config, dtype="bfloat16")

Tensors have PyTorch's names and layouts. The metadata has `format` ("qmra-jax"), `format_version`,
`model` (the model's config as JSON) and the caller's additions.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import ml_collections

from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, plugins_of, variable_shapes
from qmra_jax.network.model import QMRA
from qmra_jax.network.structures import InferenceSettings
from qmra_jax.plugins import require_plugins
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
# Unless the file has others. 20 memory frames change nothing on clips of up to 190 frames; for five
# objects at 480p they take 0.3 GB with the small network, 1 GB with the paper's.
SETTINGS = InferenceSettings(short_side=480, interval=10, max_memory=20)


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
    """Writes a weights file for `load`, atomically.

    Args:
      path: ends in .safetensors.
      variables: `{"params": ..., "batch_stats": ...}`, and "frozen" if the model has features.
      config: of the model, as for `build_model` (`config.model` of a training config).
      dtype: of the stored weights: "float32", "float16", "bfloat16", or None to keep theirs.
      frozen_dtype: "int8" for frozen features in int8 with a scale per output channel (the metadata
        then has the original's digest as `frozen_digest`); None for `dtype`.
      metadata: strings to store in addition to the config, such as the training command.
      overwrite: whether to replace an existing file.

    Raises:
      InputError: if the file exists, the variables do not fit the config, a weight overflows in
        `dtype`, or there are no frozen features for `frozen_dtype`.
    """
    state = to_torch(variables)
    expected = torch_shapes(variable_shapes(build_model(config)))
    check_state(state, expected, what="variables", examples=3)
    extra = dict(metadata or {})
    features = {}
    if frozen_dtype is not None:
        if frozen_dtype != "int8" or "frozen" not in variables:
            raise InputError(
                f'frozen_dtype {frozen_dtype!r}: expected "int8" and a network with frozen features'
            )
        features = {k: state.pop(k) for k in list(state) if k.startswith(frozen_features.PREFIX)}
        extra = {frozen_features.DIGEST: frozen_features.digest(variables["frozen"])} | extra
    if dtype is not None:
        state = {name: cast(name, array, dtype) for name, array in state.items()}
    state |= to_int8(features)
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": _to_json(config)}
    if plugins := plugins_of(config):
        header["plugins"] = json.dumps(plugins)
    wrong = [k for k, v in extra.items() if k in header or not isinstance(v, str)]
    if wrong:
        raise InputError(
            f"metadata {', '.join(map(repr, wrong))}: expected strings, under names other than"
            f" {', '.join(header)}"
        )
    write_safetensors(path, state, header | extra, overwrite=overwrite)


def load(path: str | os.PathLike) -> tuple[QMRA, dict[str, Any], ml_collections.ConfigDict]:
    """Loads a model from a file of `save`.

    Returns:
      the Linen module, with the file's settings for inference as `module.inference`; its variables
      `{"params": ..., "batch_stats": ...}` (and "frozen"), as float32; and the model's config.

    Raises:
      InputError: if the file is missing, damaged, has no model config, or its tensors do not fit
        the config.
    """
    metadata = read_metadata(path)
    if "model" not in metadata:
        raise InputError(
            f"{path}: no model config in its metadata, so it is not a file of save(); given the"
            " config, use save(new_path, from_torch(read_state(path), config), config)"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {metadata.get('format_version')!r}, expected"
            f" {FORMAT_VERSION!r}; upgrade qmra-jax"
        )
    require_plugins(json.loads(metadata.get("plugins", "[]")), str(path))
    try:
        config = ml_collections.ConfigDict(json.loads(metadata["model"]))
        module = build_model(config)
    except (ValueError, TypeError) as error:  # InputError is a ValueError
        raise InputError(f"{path}: the model config in its metadata: {error}") from error
    like = variable_shapes(module)
    variables = to_variables(read_safetensors(path), like, what=str(path), examples=3)
    return module.clone(inference=_inference_settings(metadata)), variables, config


def _inference_settings(metadata: Mapping[str, str]) -> InferenceSettings:
    """Settings stored by `qmra weights export --short-side`, `--interval` and `--max-memory`."""
    stored = {k: int(v) for k, v in metadata.items() if k in SETTINGS._fields and v.isdecimal()}
    return SETTINGS._replace(enlarge="short_side" in stored, **stored)


def _to_json(config: Mapping[str, Any]) -> str:
    plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    try:
        return json.dumps(plain, sort_keys=True)
    except TypeError as error:
        raise InputError(f"model config {plain}: expected strings and numbers ({error})") from error
