"""Converts Flax variables to PyTorch's names and layouts and back.

A torch name is the path in the tree joined by dots, with `layer1_0` and `downsample_0` written
`layer1.0` and `downsample.0`. Convolutions are OIHW, linear layers `[out, in]`; a BatchNorm has
`weight`, `bias`, `running_mean`, `running_var` and `num_batches_tracked`. Frozen features have
Hugging Face's names with the prefix `features.`.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.weights import frozen_features
from qmra_jax.weights.state_dict_files import COUNTER, check_state, from_int8

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_INDEXED = re.compile(r"(layer\d+|downsample)_(\d+)")


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts variables to a PyTorch state dict of NumPy arrays.

    Args:
      variables: `{"params": ..., "batch_stats": ...}`, and "frozen" if the model has features.

    Returns:
      torch name -> a new array of the variable's dtype, sorted by name; for
      `load_state_dict(strict=True)`, so each `num_batches_tracked` is included as int64 0.

    Raises:
      InputError: if there are other collections, or no `params`.
    """
    state = {}
    for path, leaf in _leaves(variables).items():
        name = torch_name(path)
        array = np.asarray(leaf)
        state[name] = np.array(array.transpose(_torch_axes(path, array.ndim)), order="C")
        if path[-1] == "mean":
            state[name.replace("running_mean", COUNTER)] = np.zeros((), np.int64)
    if "frozen" in variables:
        names = frozen_features.to_names(variables["frozen"])
        state |= {f"{frozen_features.PREFIX}{name}": array for name, array in names.items()}
    return dict(sorted(state.items()))


def from_torch(state: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a PyTorch state dict to variables.

    Args:
      state: torch name -> array-like. `num_batches_tracked` is optional and ignored.
      config: of the model, as for `build_model`.

    Returns:
      `{"params": ..., "batch_stats": ...}` (and "frozen"), float32.

    Raises:
      InputError: naming all missing, unexpected and misshapen arrays.
    """
    return to_variables(state, variable_shapes(build_model(config)))


def to_variables(
    state: Mapping[str, Any],
    like: Mapping[str, Any],
    *,
    what: str = "state",
    examples: int | None = None,
) -> dict[str, Any]:
    """`from_torch` for a model with variables `like` (arrays, or their shapes).

    `what` and `examples` are those of `check_state`.
    """
    arrays = from_int8({name: _array(name, value) for name, value in state.items()})
    check_state(arrays, torch_shapes(like), what=what, examples=examples)
    tree = {}
    for path in _leaves(like):
        array = np.asarray(arrays[torch_name(path)], np.float32)
        tree[path] = jnp.asarray(array.transpose(np.argsort(_torch_axes(path, array.ndim))))
    variables = traverse_util.unflatten_dict(tree)
    if "frozen" in like:
        prefix = frozen_features.PREFIX
        named = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        variables["frozen"] = frozen_features.from_names(named, like["frozen"])
    return variables


def torch_shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Torch name -> shape, without the counters."""
    shapes = {
        torch_name(path): tuple(leaf.shape[axis] for axis in _torch_axes(path, len(leaf.shape)))
        for path, leaf in _leaves(variables).items()
    }
    if "frozen" in variables:
        names = frozen_features.name_shapes(variables["frozen"])
        shapes |= {f"{frozen_features.PREFIX}{name}": shape for name, shape in names.items()}
    return shapes


def torch_name(path: tuple[str, ...]) -> str:
    """`("params", "query_encoder", "layer1_0", "bn1", "scale")` -> its name in PyTorch."""
    modules = [_INDEXED.sub(r"\1.\2", module) for module in path[1:-1]]
    return ".".join([*modules, _LEAVES.get(path[-1], path[-1])])


def _leaves(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    if "params" not in variables or set(variables) - {"params", "batch_stats", "frozen"}:
        given = ", ".join(map(str, variables)) or "nothing"
        raise InputError(f"variables hold {given}: expected params and batch_stats")
    trained = {name: tree for name, tree in variables.items() if name != "frozen"}
    return traverse_util.flatten_dict(trained)


def _torch_axes(path: tuple[str, ...], ndim: int) -> tuple[int, ...]:
    if path[-1] != "kernel":
        return tuple(range(ndim))
    return (ndim - 1, ndim - 2, *range(ndim - 2))  # HWIO -> OIHW, [in, out] -> [out, in]


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
        array.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name}: a {type(value).__name__} that NumPy cannot convert to numbers ({error});"
            " expected an array, or tensor.detach().float().numpy()"
        ) from error
    return array
