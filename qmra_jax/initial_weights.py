"""Where a run's weights start: another run's, a weights file's, or only ImageNet's in the encoders.

`--config.init_from=PATH` takes the whole network from
    runs/pretrain                       the newest checkpoint of a run,
    runs/pretrain/checkpoints/5000      a certain one,
    pretrained.safetensors              a weights file (`qmra weights export`),
the moving average of the weights where the run kept one. Its optimiser starts afresh.
"""

from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from qmra_jax import checkpoint, pretrained, weights
from qmra_jax.errors import InputError
from qmra_jax.model import QMRA
from qmra_jax.torch_names import variable_shapes


def check(model: QMRA, config: ConfigDict) -> dict[str, Any] | None:
    """Reads what `config.init_from` and `config.init.encoders` name; before anything is compiled.

    Returns:
      The variables of `init_from`, or None without one.

    Raises:
      InputError: if a file cannot be used, is another architecture's, or both are given.
    """
    if config.init_from and config.init.encoders:
        raise InputError(
            f"init_from {config.init_from} and init.encoders {config.init.encoders}: expected one"
            " of them, as the former has the encoders too"
        )
    if config.init.encoders:
        pretrained.check_encoders(model, config.init.encoders)
    return load(config.init_from, model, config.model) if config.init_from else None


def load(source: str, model: QMRA, config: ConfigDict) -> dict[str, Any]:
    """The variables of a run or a weights file, known to fit a model.

    Args:
      source: see above.
      model: to be trained, and
      config: `config.model`, which it was built of.

    Raises:
      InputError: if there is nothing such, or it is another architecture's.
    """
    there, variables = _read(source)
    differences = [
        f"{name} {there.get(name, 'absent')} there, {config.get(name, 'absent')} here"
        for name in sorted(set(there) | set(config))
        if there.get(name) != config.get(name)
    ]
    found, expected = _shapes(variables), _shapes(variable_shapes(model))
    if found != expected:
        names = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        raise InputError(
            f"init_from {source} holds another architecture: {_name(there)}; expected"
            f" {_name(config)} ({'; '.join(differences) or 'the same settings'}). {len(names)}"
            f" arrays differ, such as {names[0]}: {found.get(names[0], 'absent')} there,"
            f" {expected.get(names[0], 'absent')} here"
        )
    return variables


def initialize(
    config: ConfigDict, fresh: dict[str, Any], taken: dict[str, Any] | None
) -> dict[str, Any]:
    """The variables that a run starts with.

    Args:
      config: of the run.
      fresh: as the model's `init` gives them.
      taken: what `check` returned.
    """
    if taken is not None:
        return taken
    if not config.init.encoders:
        return fresh
    return pretrained.load_encoders(
        fresh,
        config.init.encoders,
        extra_channel=config.init.extra_channel,
        seed=config.seed,
    )


def _read(source: str) -> tuple[ConfigDict, dict[str, Any]]:
    if source.endswith(".safetensors"):
        _, variables, config = weights.load(source)
        return config, variables
    path = epath.Path(source)
    step = None
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        path, step = path.parent.parent, int(path.name)
    if not path.is_dir():
        raise InputError(
            f"init_from {source}: no such run or file; expected the workdir of a run,"
            " WORKDIR/checkpoints/STEP, or a .safetensors file"
        )
    config, variables = checkpoint.restore_model(path, step)
    return config.model, variables


def _shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(dict(variables))
    return {"/".join(str(key.key) for key in path): tuple(np.shape(leaf)) for path, leaf in leaves}


def _name(config: ConfigDict) -> str:
    """An architecture in a few words, such as "resnet18 8/16/8"."""
    widths = "/".join(str(config.get(f"{part}_dim", "?")) for part in ("key", "value", "decoder"))
    return f"{config.get('backbone', 'unknown')} {widths}"
