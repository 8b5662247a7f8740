"""Checkpoints of a run, written by Orbax.

workdir/checkpoints/STEP/    model (for evaluation: params or their moving average, batch_stats),
                             training (opt_state, step, and with an average params themselves),
                             meta (config, and the digest of the frozen features)

Arrays are saved from and restored to NumPy arrays: Orbax copies them before `save` returns, so
writing in the background never reads a buffer that the next step has reused. Every process holds
the whole state, and a run can resume on any number of devices.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from qmra_jax.errors import InputError
from qmra_jax.files import is_remote
from qmra_jax.network.build import build_model, plugins_of, variable_shapes
from qmra_jax.plugins import require_plugins
from qmra_jax.training import distributed, parallel
from qmra_jax.training.train_state import TrainState
from qmra_jax.training.workdir import plain
from qmra_jax.weights import frozen_features

ITEMS = ("model", "training", "meta")
Best = Callable[[Iterable[int]], Iterable[int]]  # selects the best of some steps


@dataclasses.dataclass
class NewestAndBest:
    """Orbax preservation policy: keeps the newest checkpoints and the best.

    Attributes:
      newest: number of newest checkpoints to keep.
      best: selects the best of the given steps.
    """

    newest: int
    best: Best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether to keep each of the checkpoints, which are sorted from oldest to newest."""
        del context
        best = set(self.best([checkpoint.step for checkpoint in checkpoints]))
        oldest_kept = len(checkpoints) - self.newest
        return [i >= oldest_kept or c.step in best for i, c in enumerate(checkpoints)]


def open_checkpoints(
    workdir: epath.Path,
    keep: int | None = None,
    best: Best = lambda steps: (),
) -> ocp.CheckpointManager:
    """Opens a run's checkpoints, for writing if `keep` is given, else only for reading.

    Incomplete checkpoints are never visible; opening for writing deletes them.

    Args:
      workdir: the run's workdir.
      keep: number of newest checkpoints to keep.
      best: selects those of the given steps that are kept too.
    """
    if keep is None:  # a reader does not synchronise with other processes
        index = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            read_only=True,
            save_interval_steps=0,  # with create, required by read_only: Orbax would warn
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=index,
                active_processes={index},
                barrier_sync_key_prefix=f"reader{index}",
            ),
        )
    else:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=NewestAndBest(keep, best),
            cleanup_tmp_directories=True,
        )
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns about every read-only directory
    try:
        return ocp.CheckpointManager(_folder(workdir), item_names=ITEMS, options=options)
    finally:
        logging.set_verbosity(verbosity)


def make_meta(config: ConfigDict, frozen: Any) -> dict[str, Any]:
    """The item "meta" of all checkpoints of a run.

    Args:
      config: the run's config.
      frozen: the network's frozen features, or None.
    """
    return {
        "config": plain(config),
        "frozen": frozen_features.digest(frozen),
        "plugins": plugins_of(config.model),
    }


def save(manager: ocp.CheckpointManager, state: TrainState, meta: dict[str, Any]) -> None:
    """Saves a state under its step, unless that step is saved already.

    Every process calls it, and the first one writes; it returns before the checkpoint is complete.

    Args:
      manager: from `open_checkpoints`.
      state: a replicated state; its frozen features are not saved.
      meta: from `make_meta`.
    """
    host = jax.tree.map(np.asarray, parallel.local_copy(state.replace(frozen=None)))
    step = int(host.step)
    if step in manager.all_steps():
        return
    model, training = host.split()
    manager.save(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            training=ocp.args.StandardSave(training),
            meta=ocp.args.JsonSave(meta),
        ),
    )


def restore(workdir: epath.Path, like: TrainState) -> TrainState | None:
    """Restores the newest readable checkpoint; None if the run has no checkpoints.

    Unreadable checkpoints newer than that one are reported on standard error and renamed to
    checkpoints/damaged-STEP.

    Args:
      workdir: the run's workdir.
      like: shapes of the state, from `jax.eval_shape`, with its actual frozen features.

    Returns:
      The state as NumPy arrays, for `parallel.replicate`.

    Raises:
      InputError: if there are checkpoints but none can be read, or they were trained with other
        frozen features.
    """
    steps = checkpoint_steps(workdir)
    if not distributed.all_equal(np.array([len(steps), *steps[-1:], 0][:2])):
        raise InputError(
            f"workdir {workdir}: the processes see different checkpoints in it (this one {steps});"
            " it must be one folder for all of them, such as on gs:// or NFS"
        )
    problems: dict[int, Exception] = {}
    for step in reversed(steps):
        try:
            state = _read_state(workdir, step, like)
        except InputError:  # readable, but trained with other frozen features
            raise
        except Exception as error:  # the file system, TensorStore and Orbax each have their own
            state, problems[step] = None, error
        # All processes resume from the same step, even if only one of them could not read another.
        if distributed.all_agree(state is not None):
            for damaged in problems:
                _move_aside(workdir, damaged, problems[damaged], step)
            distributed.barrier("damaged checkpoints are aside")
            return state
        problems.setdefault(step, OSError("another process cannot read it"))
    if problems:
        raise InputError(
            f"workdir {workdir}: none of its checkpoints {steps} can be read; the newest:"
            f" {_short(problems[steps[-1]])}. Give another --workdir"
        )
    return None


def checkpoint_steps(workdir: epath.Path) -> list[int]:
    """The steps of a workdir's complete checkpoints, ascending."""
    if not _folder(workdir).is_dir():
        return []
    with open_checkpoints(workdir) as manager:
        return sorted(manager.all_steps())


def restore_model(
    workdir: epath.PathLike, step: int | None = None
) -> tuple[ConfigDict, dict[str, Any]]:
    """Restores a run's config and variables, without the state of its optimiser.

    Args:
      workdir: the run's workdir.
      step: step of the checkpoint; None for the newest.

    Returns:
      The config, and the variables as NumPy arrays; the parameters are their moving average if the
      run keeps one (`config.ema_decay`).

    Raises:
      InputError: if there is no such run or checkpoint, or it cannot be read.
    """
    workdir = epath.Path(workdir)
    if not _folder(workdir).is_dir():
        raise InputError(
            f"workdir {workdir}: expected the folder of a run, with checkpoints/ in it"
        )
    steps = checkpoint_steps(workdir)
    step = steps[-1] if step is None and steps else step
    if step not in steps:
        raise InputError(f"workdir {workdir}: no checkpoint of step {step}; it has {steps}")
    try:
        with open_checkpoints(workdir) as manager:
            meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
            config = ConfigDict(meta["config"])
            require_plugins(meta.get("plugins", ()), f"run {workdir}")
            target = _numpy_like(dict(variable_shapes(build_model(config.model))))
            frozen = target.pop("frozen", None)
            args = ocp.args.Composite(model=ocp.args.StandardRestore(target))
            variables = dict(manager.restore(step, args=args).model)
            if frozen is not None:
                variables["frozen"] = frozen_features.load(config.init.features, frozen)
                _check_frozen(meta, variables["frozen"])
            return config, variables
    except InputError:
        raise
    except Exception as error:  # as in `restore`
        raise InputError(
            f"checkpoint {_folder(workdir) / str(step)} cannot be read ({_short(error)}): choose"
            f" another of {steps}"
        ) from None


def _read_state(workdir: epath.Path, step: int, like: TrainState) -> TrainState:
    model, training = (_numpy_like(part) for part in like.split())
    with open_checkpoints(workdir) as manager:
        items = manager.restore(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardRestore(model),
                training=ocp.args.StandardRestore(training),
                meta=ocp.args.JsonRestore(),
            ),
        )
    if like.frozen is not None:
        _check_frozen(items.meta, like.frozen)
    return like.joined(items.model, items.training)


def _check_frozen(meta: dict[str, Any], frozen: Any) -> None:
    """Raises `InputError` unless a checkpoint was trained with these frozen features."""
    actual = frozen_features.digest(frozen)
    expected = meta.get("frozen", "")  # absent in checkpoints older than frozen features
    if actual != expected:
        path = meta["config"]["init"].get("features")
        raise InputError(
            f"features {path} are not those that the checkpoint was trained with: their digest is"
            f" {actual[:12]}, expected {expected[:12] or 'none'}; put the original file back"
        )


def _numpy_like(tree: Any) -> Any:
    """A restore target that makes Orbax return NumPy arrays."""
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def _folder(workdir: epath.Path) -> epath.Path:
    folder = epath.Path(workdir) / "checkpoints"
    return folder if is_remote(folder) else epath.Path(folder.absolute())


def _move_aside(workdir: epath.Path, step: int, problem: Exception, earlier: int) -> None:
    if not distributed.is_first():
        return
    source, target = _folder(workdir) / str(step), _folder(workdir) / f"damaged-{step}"
    print(
        f"checkpoint {source} cannot be read ({_short(problem)}): renamed to {target.name};"
        f" resuming from step {earlier}",
        file=sys.stderr,
    )
    if target.exists():
        target.rmtree()
    source.rename(target)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
