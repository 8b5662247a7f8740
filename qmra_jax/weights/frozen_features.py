"""The collection "frozen" of a network with frozen features, as files and checkpoints know it.

It holds the arrays of `QMRA.frozen_features`, a `DINOv2`, under that one name.
"""

import os
from collections.abc import Mapping
from typing import Any

from qmra_jax.weights import dinov2_names

NAME = "frozen_features"


def load(path: str | os.PathLike, like: Mapping[str, Any]) -> dict[str, Any]:
    """The collection from a file of DINOv2's weights.

    Args:
      path: see `dinov2_names.load_features`.
      like: the collection, or its shapes.

    Raises:
      InputError: if the file cannot be read or is another network's.
    """
    return {NAME: dinov2_names.load_features(path, dinov2_names.module_like(like[NAME]))}


def digest(frozen: Mapping[str, Any] | None) -> str:
    """What tells one collection from another; "" of a network without one."""
    return dinov2_names.digest(frozen[NAME]) if frozen else ""


def to_names(frozen: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays under Hugging Face's names."""
    return dinov2_names.to_names(frozen[NAME])


def from_names(state: Mapping[str, Any], like: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """The collection from arrays by name; see `dinov2_names.from_names`."""
    module = dinov2_names.module_like(like[NAME])
    return {NAME: dinov2_names.from_names(state, module, **options)}


def name_shapes(frozen: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each array."""
    return dinov2_names.name_shapes(dinov2_names.module_like(frozen[NAME]))
