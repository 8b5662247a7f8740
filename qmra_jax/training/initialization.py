"""Where a run's weights start: another run's, a weights file's, or only ImageNet's in the encoders.

`--config.init_from=PATH` takes the whole network from
    runs/pretrain                       the newest checkpoint of a run,
    runs/pretrain/checkpoints/5000      a certain one,
    pretrained.safetensors              a weights file (`qmra weights export`),
the moving average of the weights where the run kept one. Its optimiser starts afresh. Which
checkpoint a run stood for when it was taken is noted in the workdir, for a restart.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from qmra_jax import weights
from qmra_jax.errors import InputError
from qmra_jax.files import is_remote
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.model import QMRA
from qmra_jax.training import checkpoint, distributed, key_projection, workdir
from qmra_jax.weights import frozen_features, imagenet

EXPECTED = "expected the workdir of a run, WORKDIR/checkpoints/STEP, or a .safetensors file"
# How a network is computed; every other setting of config.model is part of what it is.
MAY_DIFFER = ("dtype", "remat", "batch_norm")


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run begins with, known to fit.

    Attributes:
      config: of the run.
      source: the checkpoint or file that `config.init_from` stands for; "" without one.
      taken: its variables; None without one.
      frozen: the network's frozen features; None without such.
    """

    config: ConfigDict
    source: str = ""
    taken: dict[str, Any] | None = None
    frozen: dict[str, Any] | None = None

    def variables(self, model: QMRA, fresh: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The variables that the run starts with.

        Args:
          model: to be trained.
          fresh: gives what they are where nothing is taken from anywhere.
        """
        if self.taken is not None:
            return self.taken
        init, variables = self.config.init, fresh()
        if self.frozen is not None:
            variables = {**variables, "frozen": self.frozen}
        if init.encoders:
            variables = imagenet.load_encoders(
                variables, init.encoders, extra_channel=init.extra_channel, seed=self.config.seed
            )
        if init.key_projection == "pca":
            images = key_projection.training_images(self.config)
            variables = key_projection.with_pca_keys(model, variables, images)
        return variables


def check(model: QMRA, config: ConfigDict, run: epath.Path, frozen: Any = None) -> Start:
    """Reads what `config.init_from` and `config.init.encoders` name; before anything is compiled.

    Args:
      model: to be trained.
      config: of the whole run.
      run: its workdir, which may have noted what init_from stands for.
      frozen: the network's frozen features, from `load_frozen`.

    Raises:
      InputError: if a file cannot be used or is another network's.
    """
    if config.init.encoders:
        imagenet.check_encoders(model, config.init.encoders)
    if not config.init_from:
        return Start(config, frozen=frozen)
    noted = workdir.resolved_init_from(run, config)
    source = noted or _resolve(config.init_from)
    try:
        taken = load(source, model, config.model)
        if frozen_features.digest(frozen) not in _frozen_digests(source, taken):
            raise InputError(f"its features are other ones than those of {config.init.features}")
        if frozen is not None:  # a file may hold them rounded
            taken = {**taken, "frozen": frozen}
        return Start(config, source, taken)
    except InputError as error:
        if not noted:
            raise
        raise InputError(
            f"workdir {run} began from {noted} and has no checkpoint of its own yet, but that"
            f" cannot be used any more ({error}): put it back, or give another --workdir"
        ) from None


def load_frozen(shapes: Mapping[str, Any], config: ConfigDict) -> dict[str, Any] | None:
    """The network's frozen features, from the file that `config.init.features` names.

    Args:
      shapes: of the network's variables, from `variable_shapes`.
      config: of the whole run.

    Returns:
      The collection "frozen", or None for a network without one.

    Raises:
      InputError: if the file cannot be used.
    """
    if "frozen" not in shapes:
        return None
    return frozen_features.load(config.init.features, shapes["frozen"])


def load(source: str, model: QMRA, config: ConfigDict) -> dict[str, Any]:
    """The variables of a run or a weights file, known to fit a model.

    Args:
      source: see above.
      model: to be trained, and
      config: `config.model`, which it was built of.

    Raises:
      InputError: if there is nothing such, or it is another network's.
    """
    there, variables = _read(source, config)
    differences = [  # in what both know: an older run may know less
        f"{name} {there[name]} there, {config[name]} here"
        for name in sorted(set(there) & set(config) - set(MAY_DIFFER))
        if there[name] != config[name]
    ]
    found, expected = _shapes(variables), _shapes(variable_shapes(model))
    if found != expected:
        names = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        raise InputError(
            f"init_from {source} holds another architecture"
            f" ({'; '.join(differences) or 'by the same settings'}): {len(names)}"
            f" arrays differ, such as {names[0]}: {found.get(names[0], 'absent')} there,"
            f" {expected.get(names[0], 'absent')} here"
        )
    if differences:
        raise InputError(
            f"init_from {source} holds weights of the same shapes that were trained for another"
            f" network ({'; '.join(differences)}): set config.model as it was there, or name others"
        )
    return variables


def locate(source: str, asked: str = "init_from") -> tuple[epath.Path, int | None]:
    """The run that a source names, and the step if it names one.

    Args:
      source: WORKDIR or WORKDIR/checkpoints/STEP.
      asked: what the source was given as, for the error.

    Raises:
      InputError: if there is no run there.
    """
    path, step = epath.Path(source), None
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        path, step = path.parent.parent, int(path.name)
    if not (path / "checkpoints").is_dir():
        raise InputError(f"{asked} {source}: no such run with checkpoints; {EXPECTED}")
    return path, step


def _resolve(source: str) -> str:
    """A source with the step that it stands for at this moment, in every process the same."""
    if _is_file(source):
        return source
    run, step = locate(source)
    steps = checkpoint.checkpoint_steps(run)
    if step is not None or not steps:
        return source
    return str(run / "checkpoints" / str(distributed.gather(np.array(steps[-1]))[0]))


def _read(source: str, config: ConfigDict) -> tuple[ConfigDict, dict[str, Any]]:
    """A source's `config.model`, empty where it knows none, and its variables."""
    if not _is_file(source):
        there, variables = checkpoint.restore_model(*locate(source))
        return there.model, variables
    if is_remote(source):
        raise InputError(
            f"init_from {source}: weights files are read from this machine's disks alone; copy it"
            " there, or name a run"
        )
    if not epath.Path(source).exists():
        raise InputError(f"init_from {source}: no such file; {EXPECTED}")
    if "model" in weights.read_metadata(source):
        _, variables, there = weights.load(source)
        return there, variables
    try:
        variables = weights.from_torch(weights.read_state(source), config)
    except InputError as error:
        raise InputError(
            f"init_from {source} says nothing of its network, and is not {_name(config)}: {error}"
        ) from None
    if distributed.is_first():
        print(
            f"init_from {source} says nothing of its network: it fits {_name(config)} and is taken"
            " for one with the settings of config.model",
            file=sys.stderr,
        )
    return ConfigDict(), variables


def _frozen_digests(source: str, taken: dict[str, Any]) -> set[str]:
    """Of the features that a source holds; of a file of int8 also of those that it rounded."""
    metadata = weights.read_metadata(source) if _is_file(source) else {}
    digest = frozen_features.digest(taken.get("frozen"))
    return {digest, metadata.get(frozen_features.DIGEST, digest)}


def _is_file(source: str) -> bool:
    return source.endswith(".safetensors")


def _shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: tuple(np.shape(leaf)) for name, leaf in leaves.items()}


def _name(config: ConfigDict) -> str:
    """An architecture in a few words, such as "resnet18 8/16/8"."""
    widths = "/".join(str(config.get(f"{part}_dim", "?")) for part in ("key", "value", "decoder"))
    return f"{config.get('backbone', 'unknown')} {widths}"
