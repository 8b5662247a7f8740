"""The mean of several checkpoints of one network."""

import jax
import numpy as np
import pytest

import qmra_jax
from qmra_jax import cli
from qmra_jax.errors import InputError
from qmra_jax.network.structures import InferenceSettings
from qmra_jax.training import weight_averaging
from qmra_jax.training.weight_averaging import average
from qmra_jax.weights import frozen_features
from tests.support.runs import FEATURED_CONFIG
from tests.support.tiny import TINY, assert_same_tree
from tests.support.toy_dinov2 import FROZEN, LIKE, random_state


@pytest.fixture(scope="module")
def files(tiny_variables, tmp_path_factory):
    """The tiny network's weights times 1, 2 and 6."""
    folder, paths = tmp_path_factory.mktemp("weights"), []
    for factor in (1, 2, 6):
        paths.append(str(folder / f"{factor}.safetensors"))
        scaled = jax.tree.map(lambda x: factor * np.asarray(x), tiny_variables)  # noqa: B023
        qmra_jax.save(paths[-1], scaled, TINY)
    return paths


def run(*arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["weights", "average", *map(str, arguments)])
    return exit_.value.code or 0


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_mean_is_written_and_a_repeated_source_counts_twice(files, tiny_variables, tmp_path):
    out = tmp_path / "mean.safetensors"
    assert run(*files, files[2], "--output", out, "--short-side", 240) == 0
    module, mean, config = qmra_jax.load(out)
    assert config.to_dict() == qmra_jax.load(files[0])[2].to_dict()
    assert module.inference == InferenceSettings(short_side=240, enlarge=True, max_memory=20)
    assert_close(mean, jax.tree.map(lambda x: 3.75 * x, tiny_variables))


def test_source_may_be_a_run_or_one_of_its_checkpoints(files, averaged_run, tiny_variables):
    """The average of the run is everywhere 1 higher than the tiny network's weights."""
    _, mean = average([f"{averaged_run}/checkpoints/1", str(averaged_run), files[0]])
    expected = jax.tree.map(lambda x: x + 2 / 3, tiny_variables["params"])
    assert_close(mean["params"], expected)
    with pytest.raises(InputError, match="step 9"):
        average([f"{averaged_run}/checkpoints/9", files[0]])


def test_another_network_a_single_source_and_a_missing_one_are_refused(
    files, tiny_variables, tmp_path
):
    other = str(tmp_path / "other.safetensors")
    qmra_jax.save(other, tiny_variables, TINY | {"reader": "l2"})
    for sources, named in (
        ([files[0], other], r"other\.safetensors .*\(reader dot and l2\)"),
        (files[:1], "1 weights"),
        ([files[0], str(tmp_path / "none")], f"{tmp_path}/none"),
    ):
        with pytest.raises(InputError, match=named):
            average(sources)


def test_frozen_features_are_kept_and_must_agree(monkeypatch):
    other = frozen_features.from_names(random_state(seed=1), LIKE)
    sources = {
        name: {"params": {"w": np.float32([w])}, "frozen": frozen}
        for name, w, frozen in (("one", 1, FROZEN), ("three", 3, FROZEN), ("other", 1, other))
    }
    model = FEATURED_CONFIG.model
    monkeypatch.setattr(weight_averaging, "_read", lambda name: (model, dict(sources[name])))
    _, mean = average(["one", "three"])
    assert mean["params"]["w"] == 2
    assert_same_tree(mean["frozen"], FROZEN)
    with pytest.raises(InputError, match=r"one and other .*features"):
        average(["one", "three", "other"])


def test_file_is_replaced_only_on_request(files, tmp_path, capsys):
    target = tmp_path / "mean.safetensors"
    target.write_bytes(b"before")
    assert run(*files[1:], "--output", target) == 2
    assert str(target) in capsys.readouterr().err
    assert target.read_bytes() == b"before"
    assert run(*files[1:], "--output", target, "--overwrite") == 0
    assert target.read_bytes() != b"before"
