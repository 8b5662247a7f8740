"""A run's checkpoints, by Orbax, and the config that a workdir belongs to.

workdir/config.json          the run's config, written when it starts
workdir/checkpoints/STEP/    model (params, batch_stats), training (opt_state, step), meta (config)
"""

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole
from qmra_jax.model import build_model
from qmra_jax.torch_names import variable_shapes
from qmra_jax.train_state import TrainState

# What a continued run may change: nothing here alters the numbers of a step.
FREE = (
    "cpu_devices",
    "parallel",
    "log_every",
    "picture_every",
    "checkpoint_every",
    "keep_checkpoints",
    "data.root",
    "data.workers",
    "data.prefetch",
)


def find_run(workdir: Path, config: ConfigDict) -> int:
    """The newest checkpoint's step of the run that a workdir holds; 0 where it holds none.

    Raises:
      InputError: if the workdir is no folder, or holds a run with another config.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"workdir {workdir} is a file: give a folder, or a new name")
    path, step = workdir / "config.json", 0
    if (workdir / "checkpoints").is_dir():
        with open_checkpoints(workdir) as manager:
            step = manager.latest_step() or 0
    if step and not path.exists():
        raise InputError(
            f"workdir {workdir} has checkpoints but no config.json, so whose they are is unknown:"
            " put it back, or give another --workdir"
        )
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except ValueError:
            raise InputError(f"{path} is damaged: put it back, or give another --workdir") from None
        _check_same(workdir, there, config)
    return step


def claim_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes a workdir this run's.

    Raises:
      InputError: if it cannot be written.
    """
    with written_whole(workdir / "config.json") as part:
        part.write_text(json.dumps(_plain(config), indent=2) + "\n")


def open_checkpoints(workdir: Path, config: ConfigDict | None = None) -> ocp.CheckpointManager:
    """A run's checkpoints: to write them with a config, only to read them without.

    The newest `config.keep_checkpoints` are kept. One that was cut off is never seen.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # that reading is read-only is worth no warnings
    try:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.keep_checkpoints if config else None,
            read_only=config is None,
            # On a CPU what is being written may be the very buffers that the next step reuses.
            enable_async_checkpointing=jax.default_backend() != "cpu",
        )
        return ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            item_names=("model", "training", "meta"),
            options=options,
        )
    finally:
        logging.set_verbosity(verbosity)


def save(manager: ocp.CheckpointManager, state: TrainState, config: ConfigDict) -> None:
    """Saves a state under its step, unless that step is there."""
    step = int(state.step)
    if step in manager.all_steps():
        return
    model, training = _split(state)
    manager.save(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            training=ocp.args.StandardSave(training),
            meta=ocp.args.JsonSave({"config": _plain(config)}),
        ),
    )


def restore(manager: ocp.CheckpointManager, state: TrainState) -> TrainState:
    """The newest checkpoint laid out like `state`, or `state` itself where there is none."""
    step = manager.latest_step()
    if step is None:
        return state
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _split(state)
    )
    restored = manager.restore(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardRestore(target[0]),
            training=ocp.args.StandardRestore(target[1]),
        ),
    )
    return state.replace(**restored.model, **restored.training)


def restore_model(workdir: Path, step: int | None = None) -> tuple[ConfigDict, dict[str, Any]]:
    """A run's config and `{"params", "batch_stats"}`, without its optimiser.

    Args:
      workdir: of the run.
      step: of the checkpoint; the newest if None.

    Raises:
      InputError: if there is no such run or checkpoint.
    """
    workdir = Path(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise InputError(
            f"workdir {workdir}: expected a training run's folder with checkpoints/ in it"
        )
    with open_checkpoints(workdir) as manager:
        steps = sorted(manager.all_steps())
        step = steps[-1] if step is None and steps else step
        if step not in steps:
            raise InputError(f"workdir {workdir}: no checkpoint of step {step}; it has {steps}")
        meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
        config = ConfigDict(meta["config"])
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            variable_shapes(build_model(config.model)),
        )
        args = ocp.args.Composite(model=ocp.args.StandardRestore(dict(target)))
        return config, manager.restore(step, args=args).model


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a model is, and what only going on with its training needs."""
    return (
        {"params": state.params, "batch_stats": state.batch_stats},
        {"opt_state": state.opt_state, "step": state.step},
    )


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json_best_effort())


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check_same(workdir: Path, old: dict[str, Any], new: ConfigDict) -> None:
    before, now = _flat(old), _flat(_plain(new))
    different = [
        f"{key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} here"
        for key in sorted(before.keys() | now.keys())
        if key not in FREE and before.get(key) != now.get(key)
    ]
    if different:
        raise InputError(
            f"workdir {workdir} holds a run with another config ({'; '.join(different)}):"
            " give another --workdir, or the same config to continue that run"
        )
