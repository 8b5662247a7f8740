"""One network of several: the mean of the weights that a training passed through.

Averaged weights of one trajectory often generalise better than any of them (SWA, Izmailov et al.,
UAI 2018), also those of runs that went on from each other with other data ("model soups", Wortsman
et al., ICML 2022). Of runs from different initial weights the mean is of no use.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from qmra_jax import weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model
from qmra_jax.training import checkpoint
from qmra_jax.training.initialization import MAY_DIFFER, locate


def average(sources: Sequence[str]) -> tuple[ConfigDict, dict[str, Any]]:
    """The mean of the parameters and the batch statistics of several networks of one kind.

    Args:
      sources: two or more, each a .safetensors file, a run (its newest checkpoint) or
        RUN/checkpoints/STEP; of a run the moving average where it keeps one. One that is given
        twice counts twice.

    Returns:
      The first one's `config.model`, and `{"params", "batch_stats"}` as float32 NumPy arrays.

    Raises:
      InputError: if there are fewer than two, one cannot be read, or is another network.
    """
    if len(sources) < 2:
        raise InputError(f"{len(sources)} weights to average: expected two or more")
    config, total = _read(sources[0])
    total = jax.tree.map(lambda x: np.asarray(x, np.float64), total)
    for source in sources[1:]:
        other, variables = _read(source)
        _check_same(sources[0], config, source, other)
        total = jax.tree.map(np.add, total, variables)
    return config, jax.tree.map(lambda x: (x / len(sources)).astype(np.float32), total)


def _read(source: str) -> tuple[ConfigDict, dict[str, Any]]:
    if source.endswith(".safetensors"):
        _, variables, config = weights.load(source)
        return config, variables
    whole, variables = checkpoint.restore_model(*locate(source, "weights"))
    return whole.model, variables


def _check_same(first: str, config: ConfigDict, source: str, other: ConfigDict) -> None:
    here, there = build_model(config), build_model(other)  # what a config leaves out, filled in
    differences = [
        f"{name} {getattr(here, name)} and {getattr(there, name)}"
        for name in sorted({*config, *other} - set(MAY_DIFFER))
        if getattr(here, name) != getattr(there, name)
    ]
    if differences:
        raise InputError(
            f"{first} and {source} are different networks ({'; '.join(differences)}): expected"
            " weights of one"
        )
