"""A loss that is NaN or infinite: at which step, which parts of it, and on which examples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from qmra_jax.training import distributed, parallel
from qmra_jax.training.train_state import TrainState

STATUS = 3  # exit status of a run that ends so
MOST_NAMED = 8


class LossNotFinite(Exception):
    """A loss or gradient that is not finite; the message says where it came from."""


def explain(
    diagnose: Callable, state: TrainState, batch: Mapping[str, Any], run: epath.Path
) -> LossNotFinite:
    """What went wrong in the step after a state. Every process calls it.

    Args:
      diagnose: of `train_step.make_diagnose`, parallelised.
      state: of the last good step, replicated; it is consumed.
      batch: this process's triplets of the next step, with their `id`.
      run: the workdir, which has a checkpoint of that step.

    Returns:
      The error to raise.
    """
    good = int(parallel.local_copy(state.step))
    arrays = {name: value for name, value in batch.items() if name != "id"}
    losses = jax.device_get(diagnose(state, arrays)[1])
    parts = ", ".join(f"{name} {value.mean():.4g}" for name, value in losses.items())
    bad = ~np.isfinite(np.stack(list(losses.values()))).all(axis=0)
    names = [i.decode() if isinstance(i, bytes) else str(i) for i in batch["id"]]
    own = np.split(bad, distributed.place()[1])[distributed.place()[0]]
    if own.any():
        where = "not finite on " + _listed([n for n, b in zip(names, own, strict=True) if b])
    elif bad.any():
        where = "not finite on examples of another process, which names them"
    else:
        where = "each finite, so it was the gradient or the update, on " + _listed(names)
    return LossNotFinite(
        f"step {good + 1}: the loss or its gradient is not finite. Loss parts: {parts}; {where}."
        f" Nothing was learned from it, and the state after step {good} is saved. Look at these"
        " examples, or start again in a new workdir, with"
        f" --config.init_from={run}/checkpoints/{good} and a lower learning rate,"
        " optimizer.clip_norm or model.dtype=float32"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
