"""A workdir belongs to one run, and must be writable."""

import pytest
from etils import epath
from ml_collections import ConfigDict

from qmra_jax.errors import InputError
from qmra_jax.training import workdir


def test_only_settings_without_effect_on_a_step_may_change_when_a_run_resumes(tmp_path):
    config = ConfigDict({"seed": 0, "eval": {"every": 0}, "log_every": 1})
    workdir.claim(tmp_path, config)
    config.log_every, config.eval.every = 5, 100
    workdir.check_run(tmp_path, config)
    config.seed = 1
    with pytest.raises(InputError, match=r"\(seed: 0 there, 1 here\)"):
        workdir.check_run(tmp_path, config)


def test_unreachable_bucket_is_one_line(monkeypatch):
    path = epath.Path("gs://no-such-bucket/run")

    def fail(self, *args):
        raise OSError("could not resolve host\nwhen reading metadata")

    monkeypatch.setattr(type(path), "exists", fail)
    monkeypatch.setattr(type(path), "write_text", fail)
    for use in (workdir.check_run, workdir.claim):
        with pytest.raises(InputError, match=r"gs://no-such-bucket.* \(could not resolve host\)"):
            use(path, ConfigDict())
