"""The report on a non-finite loss or gradient."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath

from qmra_jax.training import distributed, nonfinite


@pytest.mark.parametrize(
    ("bad", "process", "reported"),
    [
        (2, 1, r"mask nan; .* on c\."),
        (2, 0, "another process"),
        (None, 0, r"gradient .* on a, b\."),
    ],
)
def test_each_process_names_its_own_examples_and_the_saved_step(
    bad, process, reported, monkeypatch
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
    assert re.search(f"^step 8: .*{reported}.* step 7 .*=runs/x/checkpoints/7 ", str(error))
