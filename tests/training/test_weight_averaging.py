"""Several weights become one: their mean, of one kind of network alone."""

from pathlib import Path

import jax
import numpy as np
import pytest

import qmra_jax
from qmra_jax import cli
from qmra_jax.errors import InputError
from qmra_jax.training.weight_averaging import average
from qmra_jax.weights.safetensors_model import suited_short_side
from tests.support.tiny import TINY


@pytest.fixture
def files(tiny_variables, tmp_path):
    """The tiny network's weights times 1, 2 and 6."""
    paths = []
    for factor in (1, 2, 6):
        paths.append(str(tmp_path / f"{factor}.safetensors"))
        scaled = jax.tree.map(lambda x: factor * np.asarray(x), tiny_variables)  # noqa: B023
        qmra_jax.save(paths[-1], scaled, TINY)
    return paths


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", "average", *map(str, arguments)])
    return ended.value.code or 0


def times(factor, variables):
    return [np.asarray(x) * factor for x in jax.tree.leaves(variables)]


def test_the_mean_is_written_and_one_given_twice_counts_twice(files, tiny_variables, tmp_path):
    out = tmp_path / "mean.safetensors"
    assert run(*files, files[2], "--output", out, "--short-side", 240) == 0
    _, mean, config = qmra_jax.load(out)
    assert config.to_dict() == qmra_jax.load(files[0])[2].to_dict()
    assert suited_short_side(out) == 240
    for own, expected in zip(jax.tree.leaves(mean), times(3.75, tiny_variables), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-6)


def test_a_run_s_checkpoints_count_by_their_step(files, tiny_variables, tmp_path, monkeypatch):
    asked = []

    def restore_model(workdir, step=None):
        asked.append((str(workdir), step))
        config = qmra_jax.load(files[0])[2]
        return type(config)({"model": config}), tiny_variables

    monkeypatch.setattr("qmra_jax.training.checkpoint.restore_model", restore_model)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    run_ = str(tmp_path / "run")
    _, mean = average([f"{run_}/checkpoints/70", run_, files[1]])
    assert asked == [(run_, 70), (run_, None)]
    for own, expected in zip(jax.tree.leaves(mean), times(4 / 3, tiny_variables), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-6)


def test_another_network_one_alone_and_what_is_absent_are_refused(files, tiny_variables, tmp_path):
    other = str(tmp_path / "other.safetensors")
    qmra_jax.save(other, tiny_variables, TINY | {"reader": "l2"})
    with pytest.raises(InputError, match=r"different networks \(reader dot and l2\): expected"):
        average([files[0], other])
    with pytest.raises(InputError, match="1 weights to average: expected two or more"):
        average(files[:1])
    with pytest.raises(InputError, match=r"weights .*none: no such run with checkpoints; expected"):
        average([files[0], str(tmp_path / "none")])


def test_a_file_is_replaced_only_when_asked(files, capsys):
    before = Path(files[0]).read_bytes()
    assert run(*files[1:], "--output", files[0]) == 2
    assert "exists" in capsys.readouterr().err
    assert Path(files[0]).read_bytes() == before
    assert run(*files[1:], "--output", files[0], "--overwrite") == 0
    assert Path(files[0]).read_bytes() != before
