"""Averages the weights of several checkpoints of one network.

Averaged weights along one training run often generalise better than any of them (SWA, Izmailov et
al., UAI 2018), and so do those of runs that continue each other on other data ("model soups",
Wortsman et al., ICML 2022). The mean of runs with different initial weights is useless.
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
from qmra_jax.training.initialization import COMPUTATION, frozen_digests, is_file, locate


def average(sources: Sequence[str]) -> tuple[ConfigDict, dict[str, Any]]:
    """The mean of the parameters and the batch statistics of several checkpoints.

    Args:
      sources: two or more, each a .safetensors file, a run's workdir (its newest checkpoint) or
        WORKDIR/checkpoints/STEP; of a run, the moving average if it keeps one. A source that is
        given twice counts twice.

    Returns:
      The first one's `config.model`, and the mean variables as float32 NumPy arrays, with the first
      one's frozen features, if any.

    Raises:
      InputError: if there are fewer than two, one cannot be read, or their networks or frozen
        features differ.
    """
    if len(sources) < 2:
        raise InputError(f"{len(sources)} weights to average: expected two or more")
    config, first = _read(sources[0])
    digests = frozen_digests(sources[0], first)
    frozen = first.pop("frozen", None)
    total = jax.tree.map(lambda x: np.asarray(x, np.float64), first)
    for source in sources[1:]:
        other, variables = _read(source)
        _check_same_network(sources[0], config, source, other)
        if not digests & frozen_digests(source, variables):
            raise InputError(
                f"{sources[0]} and {source} have different frozen features: expected weights that"
                " were trained with the same features file"
            )
        variables.pop("frozen", None)
        total = jax.tree.map(np.add, total, variables)
    mean = jax.tree.map(lambda x: (x / len(sources)).astype(np.float32), total)
    return config, mean if frozen is None else mean | {"frozen": jax.tree.map(np.asarray, frozen)}


def _read(source: str) -> tuple[ConfigDict, dict[str, Any]]:
    """`config.model` and the variables of a source."""
    if is_file(source):
        _, variables, config = weights.load(source)
        return config, dict(variables)
    run_config, variables = checkpoint.restore_model(*locate(source, "weights"))
    return run_config.model, dict(variables)


def _check_same_network(first: str, config: ConfigDict, source: str, other: ConfigDict) -> None:
    one, two = build_model(config), build_model(other)  # fills in settings that a config lacks
    differences = [
        f"{name} {getattr(one, name)} and {getattr(two, name)}"
        for name in sorted({*config, *other} - set(COMPUTATION))
        if getattr(one, name) != getattr(two, name)
    ]
    if differences:
        raise InputError(
            f"{first} and {source} are different networks ({'; '.join(differences)}): expected"
            " weights of one network"
        )
