"""Report on a loss that is NaN or infinite: the step, the loss terms, the examples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from qmra_jax.training import distributed, parallel
from qmra_jax.training.train_state import TrainState

STATUS = 3  # exit status of the run
MOST_NAMED = 8


class LossNotFinite(Exception):
    """A loss or gradient is not finite; the message says where."""


def explain(
    diagnose: Callable, state: TrainState, batch: Mapping[str, Any], run: epath.Path
) -> LossNotFinite:
    """Describes the non-finite step after `state`; to be called by every process.

    Args:
      diagnose: `train_step.make_diagnose`, parallelised.
      state: state of the last good step, replicated; donated.
      batch: this process's triplets of the failed step, with their "id".
      run: the workdir, which has a checkpoint of `state`.

    Returns:
      The error to raise.
    """
    good = int(parallel.local_copy(state.step))
    arrays = {name: value for name, value in batch.items() if name != "id"}
    losses = jax.device_get(diagnose(state, arrays)[1])
    terms = ", ".join(f"{name} {value.mean():.4g}" for name, value in losses.items())
    bad = ~np.isfinite(np.stack(list(losses.values()))).all(axis=0)
    ids = [i.decode() if isinstance(i, bytes) else str(i) for i in batch["id"]]
    index, count = distributed.place()
    local_bad = np.split(bad, count)[index]
    if local_bad.any():
        where = "not finite on " + _listed([i for i, b in zip(ids, local_bad, strict=True) if b])
    elif bad.any():
        where = "not finite on examples of another process, which names them"
    else:
        where = "each finite, so the gradient or the update was not, on " + _listed(ids)
    return LossNotFinite(
        f"step {good + 1}: the loss or its gradient is not finite. Loss terms: {terms}; {where}."
        f" The state after step {good} is saved. Inspect these examples, or start again in a new"
        f" workdir with --config.init_from={run}/checkpoints/{good} and a lower learning rate,"
        " optimizer.clip_norm or model.dtype=float32"
    )


def _listed(ids: list[str]) -> str:
    more = len(ids) - MOST_NAMED
    return ", ".join(ids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
