"""A loss that is NaN or infinite: at which step, which parts of it, and on which examples."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

STATUS = 3  # exit status of a run that ends so
MOST_NAMED = 8


class LossNotFinite(Exception):
    """A loss or gradient that is not finite; the message says where it came from."""


def explain(diagnose: Callable, state: Any, batch: Mapping[str, Any]) -> LossNotFinite:
    """What went wrong in the step after a state.

    Args:
      diagnose: of `train_step.make_diagnose`.
      state: of the last good step, one copy.
      batch: this process's triplets of the next step, with their `id`.

    Returns:
      The error to raise.
    """
    arrays = {name: value for name, value in batch.items() if name != "id"}
    losses = {name: np.asarray(value) for name, value in diagnose(state, arrays).items()}
    parts = ", ".join(f"{name} {value.mean():.4g}" for name, value in losses.items())
    names = [i.decode() if isinstance(i, bytes) else str(i) for i in batch["id"]]
    bad = ~np.isfinite(np.stack(list(losses.values()))).all(axis=0)
    if bad.any():
        where = "not finite on " + _listed([n for n, b in zip(names, bad, strict=True) if b])
    else:  # the gradient alone, or another process's examples
        where = "each finite here, so it was the gradient on " + _listed(names)
    good = int(state.step)
    return LossNotFinite(
        f"step {good + 1}: the loss or its gradient is not finite. Loss parts: {parts}; {where}."
        f" Nothing was learned from it and the last checkpoint stays. Look at these examples, or"
        " start again, in a new workdir, with a lower learning rate, optimizer.clip_norm or"
        " model.dtype=float32"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
