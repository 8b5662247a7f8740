"""What is told of a step whose loss or gradient is not finite."""

from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath

from qmra_jax.training import distributed, nonfinite


@pytest.mark.parametrize(
    ("bad", "process", "says"),
    [
        (2, 1, "mask nan; not finite on c. Nothing was learned"),
        (2, 0, "not finite on examples of another process, which names them"),
        (None, 0, "each finite, so it was the gradient or the update, on a, b."),
    ],
)
def test_each_process_names_its_own_examples_and_all_the_step_that_is_saved(
    bad, process, says, monkeypatch
):
    monkeypatch.setattr(distributed, "place", lambda: (process, 2))
    losses = {"box": np.ones(4), "mask": np.ones(4)}
    if bad is not None:
        losses["mask"][bad] = np.nan
    ids = [[b"a", b"b"], [b"c", b"d"]][process]
    error = nonfinite.explain(
        lambda state, batch: (state, losses),
        SimpleNamespace(step=np.int32(7)),
        {"id": ids, "images": np.zeros((2, 3, 16, 16, 3), np.uint8)},
        epath.Path("runs/x"),
    )
    told = str(error)
    assert told.startswith("step 8: ")
    assert says in told
    assert "the state after step 7 is saved" in told
    assert "--config.init_from=runs/x/checkpoints/7" in told
