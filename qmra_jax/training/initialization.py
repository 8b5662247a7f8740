"""Initial weights of a run: another run's, a weights file's, or ImageNet's in the encoders.

`--config.init_from=PATH` loads the whole network from
    runs/pretrain                       the newest checkpoint of a run,
    runs/pretrain/checkpoints/5000      a given checkpoint,
    pretrained.safetensors              a weights file (`qmra weights export`);
of a run, the moving average of the weights if it keeps one. The optimiser starts afresh. The
checkpoint that was used is noted in the workdir, for a restart.
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
# Settings of config.model that say how a network is computed, not which network it is.
COMPUTATION = ("dtype", "remat", "batch_norm")


@dataclasses.dataclass(frozen=True)
class Start:
    """The initial weights of a run, known to fit its network.

    Attributes:
      config: the run's config.
      source: the checkpoint or file that `config.init_from` resolves to, or "".
      loaded: variables from `source`, or None.
      frozen: the network's frozen features, or None.
    """

    config: ConfigDict
    source: str = ""
    loaded: dict[str, Any] | None = None
    frozen: dict[str, Any] | None = None

    def variables(self, model: QMRA, init: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The initial variables.

        Args:
          model: the network.
          init: makes random variables; called only if there is no `source`.
        """
        if self.loaded is not None:
            return self.loaded
        settings, variables = self.config.init, init()
        if self.frozen is not None:
            variables = {**variables, "frozen": self.frozen}
        if settings.encoders:
            variables = imagenet.load_encoders(
                variables,
                settings.encoders,
                extra_channel=settings.extra_channel,
                seed=self.config.seed,
            )
        if settings.key_projection == "pca":
            images = key_projection.training_images(self.config)
            variables = key_projection.with_pca_keys(model, variables, images)
        return variables


def check(model: QMRA, config: ConfigDict, run: epath.Path, frozen: Any = None) -> Start:
    """Checks and loads `config.init_from`, and checks `config.init.encoders`; compiles nothing.

    Args:
      model: the network.
      config: the run's config.
      run: its workdir; a restart uses the checkpoint that is noted there for `init_from`.
      frozen: the network's frozen features, from `load_frozen`.

    Raises:
      InputError: if a file cannot be read or belongs to another network.
    """
    if config.init.encoders:
        imagenet.check_encoders(model, config.init.encoders)
    if not config.init_from:
        return Start(config, frozen=frozen)
    noted = workdir.resolved_init_from(run, config)
    source = noted or _resolve(config.init_from)
    try:
        loaded = load(source, model, config.model)
        if frozen_features.digest(frozen) not in frozen_digests(source, loaded):
            raise InputError(
                f"init_from {source} was trained with other frozen features than those of"
                f" init.features {config.init.features}"
            )
        if frozen is not None:  # `source` may store them rounded
            loaded = {**loaded, "frozen": frozen}
        return Start(config, source, loaded)
    except InputError as error:
        if not noted:
            raise
        raise InputError(
            f"workdir {run} started from {noted} and has no checkpoint of its own yet, but {noted}"
            f" can no longer be used ({error}): restore it, or give another --workdir"
        ) from None


def load_frozen(shapes: Mapping[str, Any], config: ConfigDict) -> dict[str, Any] | None:
    """Loads the network's frozen features from `config.init.features`.

    Args:
      shapes: shapes of the network's variables, from `variable_shapes`.
      config: the run's config.

    Returns:
      The collection "frozen", or None if the network has none.

    Raises:
      InputError: if the file cannot be used.
    """
    if "frozen" not in shapes:
        return None
    return frozen_features.load(config.init.features, shapes["frozen"])


def load(source: str, model: QMRA, config: ConfigDict) -> dict[str, Any]:
    """Loads the variables of a run or a weights file, and checks that they fit a network.

    Args:
      source: one of the paths that `init_from` may be.
      model: the network, built from
      config: `config.model`.

    Raises:
      InputError: if there is no such source, or it belongs to another network.
    """
    source_config, variables = _read(source, config)
    differences = [  # among the settings that both have: an older run may lack some
        f"{name} {source_config[name]} there, {config[name]} here"
        for name in sorted(set(source_config) & set(config) - set(COMPUTATION))
        if source_config[name] != config[name]
    ]
    actual, expected = _shapes(variables), _shapes(variable_shapes(model))
    if actual != expected:
        names = sorted(n for n in actual | expected if actual.get(n) != expected.get(n))
        raise InputError(
            f"init_from {source} holds another architecture"
            f" ({'; '.join(differences) or 'with the same settings'}): {len(names)} arrays differ,"
            f" such as {names[0]}: {actual.get(names[0], 'absent')} there,"
            f" {expected.get(names[0], 'absent')} here"
        )
    if differences:
        raise InputError(
            f"init_from {source} holds weights of the same shapes for another network"
            f" ({'; '.join(differences)}): set config.model as it is there, or use other weights"
        )
    return variables


def locate(source: str, option: str = "init_from") -> tuple[epath.Path, int | None]:
    """Splits a source into a run's workdir and the step, None if it names none.

    Args:
      source: WORKDIR or WORKDIR/checkpoints/STEP.
      option: name of the option that the source was given by, for the error message.

    Raises:
      InputError: if there is no such run.
    """
    path, step = epath.Path(source), None
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        path, step = path.parent.parent, int(path.name)
    if not (path / "checkpoints").is_dir():
        raise InputError(f"{option} {source}: no such run with checkpoints; {EXPECTED}")
    return path, step


def frozen_digests(source: str, variables: Mapping[str, Any]) -> set[str]:
    """Digests of a source's frozen features; of an int8 file also of the features it rounded."""
    metadata = weights.read_metadata(source) if is_file(source) else {}
    digest = frozen_features.digest(variables.get("frozen"))
    return {digest, metadata.get(frozen_features.DIGEST, digest)}


def is_file(source: str) -> bool:
    """Whether a source is a weights file, not a run."""
    return source.endswith(".safetensors")


def _resolve(source: str) -> str:
    """The source with a run's newest step appended, the same in every process."""
    if is_file(source):
        return source
    run, step = locate(source)
    steps = checkpoint.checkpoint_steps(run)
    if step is not None or not steps:
        return source
    return str(run / "checkpoints" / str(distributed.gather(np.array(steps[-1]))[0]))


def _read(source: str, config: ConfigDict) -> tuple[ConfigDict, dict[str, Any]]:
    """A source's `config.model`, empty if it stores none, and its variables."""
    if not is_file(source):
        run_config, variables = checkpoint.restore_model(*locate(source))
        return run_config.model, variables
    if is_remote(source):
        raise InputError(
            f"init_from {source}: weights files can only be read from a local disk; copy it there,"
            " or use a run"
        )
    if not epath.Path(source).exists():
        raise InputError(f"init_from {source}: no such file; {EXPECTED}")
    if "model" in weights.read_metadata(source):
        _, variables, file_config = weights.load(source)
        return file_config, variables
    try:
        variables = weights.from_torch(weights.read_state(source), config)
    except InputError as error:
        raise InputError(
            f"init_from {source} stores no model config, and is not {_name(config)}: {error}"
        ) from None
    if distributed.is_first():
        print(
            f"init_from {source} stores no model config: it fits {_name(config)}, and is assumed to"
            " have the settings of config.model",
            file=sys.stderr,
        )
    return ConfigDict(), variables


def _shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: tuple(np.shape(leaf)) for name, leaf in leaves.items()}


def _name(config: ConfigDict) -> str:
    """An architecture in a few words, such as "resnet18 8/16/8"."""
    widths = "/".join(str(config.get(f"{part}_dim", "?")) for part in ("key", "value", "decoder"))
    return f"{config.get('backbone', 'unknown')} {widths}"
