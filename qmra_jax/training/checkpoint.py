"""A run's checkpoints, by Orbax.

workdir/checkpoints/STEP/    model (what evaluation uses: params or their EMA, batch_stats),
                             training (opt_state, step, and with EMA the params themselves),
                             meta (config, and the digest of frozen features)

Arrays go to Orbax as NumPy's and come from it as such. It copies those before `save` returns, so
that writing in the background never meets a buffer that the next step has reused; each of several
processes holds the whole state, and any number of devices may take it up again.
"""

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from qmra_jax.errors import InputError
from qmra_jax.files import is_remote
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import distributed, parallel
from qmra_jax.training.train_state import TrainState
from qmra_jax.training.workdir import plain
from qmra_jax.weights import frozen_features

ITEMS = ("model", "training", "meta")


@dataclasses.dataclass
class NewestAndBest:
    """Which checkpoints stay: the newest few, and those of certain steps (Orbax's policy protocol).

    Attributes:
      newest: how many.
      best: gives, of the steps that there are, those of the best.
    """

    newest: int
    best: Callable[[Collection[int]], Iterable[int]]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each of the checkpoints, oldest first, stays."""
        del context
        best = set(self.best([checkpoint.step for checkpoint in checkpoints]))
        oldest_kept = len(checkpoints) - self.newest
        return [i >= oldest_kept or c.step in best for i, c in enumerate(checkpoints)]


def open_checkpoints(
    workdir: epath.Path,
    keep: int | None = None,
    best: Callable[[Collection[int]], Iterable[int]] = lambda steps: (),
) -> ocp.CheckpointManager:
    """A run's checkpoints: to write them if `keep` is given, only to read them if not.

    One that was cut off is never seen, and swept away by who opens them to write.

    Args:
      workdir: of the run.
      keep: how many of the newest stay.
      best: gives, of the steps that there are, those that stay beside them.
    """
    if keep is None:  # a reader needs no other process, and waits for none
        alone = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            read_only=True,
            save_interval_steps=0,  # these two, as else Orbax tells that it sets them so
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=alone,
                active_processes={alone},
                barrier_sync_key_prefix=f"reader{alone}",
            ),
        )
    else:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=NewestAndBest(keep, best),
            cleanup_tmp_directories=True,
        )
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # it warns that a directory to read is read-only
    try:
        return ocp.CheckpointManager(_folder(workdir), item_names=ITEMS, options=options)
    finally:
        logging.set_verbosity(verbosity)


def save(manager: ocp.CheckpointManager, state: TrainState, config: ConfigDict) -> None:
    """Saves a state under its step, unless that step is there. Returns before all is written.

    Every process calls it; the first one writes.
    """
    host = jax.tree.map(np.asarray, parallel.local_copy(state))  # Orbax copies it at once
    step = int(host.step)
    if step in manager.all_steps():
        return
    model, training = host.split()
    manager.save(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            training=ocp.args.StandardSave(training),
            meta=ocp.args.JsonSave(
                {"config": plain(config), "frozen": frozen_features.digest(host.frozen)}
            ),
        ),
    )


def restore(workdir: epath.Path, like: TrainState) -> TrainState | None:
    """The newest checkpoint that can be read, or None where a run has none yet.

    One that cannot be read while an older one can is told on standard error and moved aside, to
    checkpoints/damaged-STEP: the run goes on from the older one, and to the same end.

    Args:
      workdir: of the run.
      like: the state's shapes, as `jax.eval_shape` gives them; its frozen features themselves.

    Returns:
      The state as NumPy arrays, for `parallel.replicate`.

    Raises:
      InputError: if there are checkpoints and none can be read.
    """
    steps = checkpoint_steps(workdir)
    if not distributed.all_equal(np.array([len(steps), *steps[-1:], 0][:2])):
        raise InputError(
            f"workdir {workdir}: the processes find different checkpoints in it (this one {steps});"
            " it must be one folder for all, such as on gs:// or NFS"
        )
    problems: dict[int, Exception] = {}
    for step in reversed(steps):
        try:
            state = _read_state(workdir, step, like)
        except Exception as error:  # whatever the file system, TensorStore or Orbax makes of it
            if isinstance(error, InputError):  # sound, but of other frozen features
                raise
            state, problems[step] = None, error
        # All processes go on from one step, also where only one of them could not read.
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
    """The steps of the whole checkpoints that a workdir holds, ascending."""
    if not _folder(workdir).is_dir():
        return []
    with open_checkpoints(workdir) as manager:
        return sorted(manager.all_steps())


def restore_model(
    workdir: epath.PathLike, step: int | None = None
) -> tuple[ConfigDict, dict[str, Any]]:
    """A run's config and `{"params", "batch_stats"}`, without its optimiser.

    The parameters are their moving average where the run keeps one (`config.ema_decay`).

    Args:
      workdir: of the run.
      step: of the checkpoint; the newest if None.

    Returns:
      The config, and the variables as NumPy arrays.

    Raises:
      InputError: if there is no such run or checkpoint, or it cannot be read.
    """
    workdir = epath.Path(workdir)
    if not _folder(workdir).is_dir():
        raise InputError(
            f"workdir {workdir}: expected a training run's folder with checkpoints/ in it"
        )
    steps = checkpoint_steps(workdir)
    step = steps[-1] if step is None and steps else step
    if step not in steps:
        raise InputError(f"workdir {workdir}: no checkpoint of step {step}; it has {steps}")
    try:
        with open_checkpoints(workdir) as manager:
            meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
            config = ConfigDict(meta["config"])
            target = _host_like(dict(variable_shapes(build_model(config.model))))
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
            f"checkpoint {_folder(workdir) / str(step)} cannot be read ({_short(error)}): name"
            f" another of {steps}"
        ) from None


def _read_state(workdir: epath.Path, step: int, like: TrainState) -> TrainState:
    model, training = (_host_like(part) for part in like.split())
    with open_checkpoints(workdir) as manager:
        found = manager.restore(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardRestore(model),
                training=ocp.args.StandardRestore(training),
                meta=ocp.args.JsonRestore(),
            ),
        )
    if like.frozen is not None:
        _check_frozen(found.meta, like.frozen)
    return like.joined(found.model, found.training)


def _check_frozen(meta: dict[str, Any], frozen: Any) -> None:
    """Raises `InputError` unless a checkpoint was trained with these frozen features."""
    here, there = frozen_features.digest(frozen), meta.get("frozen", "")  # older ones have no key
    if here != there:
        path = meta["config"]["init"].get("features")
        raise InputError(
            f"features {path} are not those that the checkpoint was trained with: their digest is"
            f" {here[:12]}, expected {there[:12] or 'none'}; put the file back"
        )


def _host_like(tree: Any) -> Any:
    """Tells Orbax to give NumPy arrays of these shapes."""
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def _folder(workdir: epath.Path) -> epath.Path:
    folder = epath.Path(workdir) / "checkpoints"
    return folder if is_remote(folder) else epath.Path(folder.absolute())


def _move_aside(workdir: epath.Path, step: int, problem: Exception, earlier: int) -> None:
    if not distributed.is_first():
        return
    source, target = _folder(workdir) / str(step), _folder(workdir) / f"damaged-{step}"
    print(
        f"checkpoint {source} cannot be read ({_short(problem)}): moved to {target.name};"
        f" going on from step {earlier}",
        file=sys.stderr,
    )
    if target.exists():
        target.rmtree()
    source.rename(target)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
