"""Shared by the tests of training."""

import pytest

from tests.support.runs import make_state, save


@pytest.fixture(scope="session")
def averaged_run(tiny_variables, tmp_path_factory):
    """A run of the tiny network: checkpoints 1 and 2, its average is the parameters plus 1."""
    run = tmp_path_factory.mktemp("averaged")
    save(run, *(make_state(step, tiny_variables, ema=True) for step in (1, 2)))
    return run
