"""Initial weights: from a run, a checkpoint or a file that belongs to the same network."""

import jax
import pytest
from etils import epath
from ml_collections import ConfigDict

import qmra_jax
from qmra_jax import weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import checkpoint, initialization, workdir
from qmra_jax.weights import frozen_features, state_dict_files
from tests.support.runs import CONFIG, FEATURED_CONFIG, MODEL
from tests.support.tiny import assert_same_tree, random_variables
from tests.support.toy_dinov2 import FROZEN, LIKE, random_state


@pytest.fixture(scope="module")
def tiny_file(tiny_variables, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "w.safetensors"
    weights.save(path, tiny_variables, CONFIG.model)
    return path


def test_run_starts_from_newest_or_given_checkpoint_or_file(
    averaged_run, tiny_file, tiny_model, tiny_variables
):
    average = jax.tree.map(lambda x: x + 1, tiny_variables["params"])
    for source, params in (
        (averaged_run, average),
        (averaged_run / "checkpoints" / "1", average),
        (tiny_file, tiny_variables["params"]),
    ):
        loaded = initialization.load(str(source), tiny_model, CONFIG.model)
        assert_same_tree(loaded["params"], params)


@pytest.mark.parametrize(
    "source",
    ["nowhere", "no.safetensors", "gs://bucket/w.safetensors", "{run}/checkpoints"],
)
def test_missing_source_is_refused_by_name(averaged_run, tiny_model, source):
    source = source.format(run=averaged_run)
    with pytest.raises(InputError, match=f"init_from {source}: "):
        initialization.load(source, tiny_model, CONFIG.model)


def test_another_architecture_is_refused(averaged_run):
    other = ConfigDict(MODEL | {"key_dim": 16})
    with pytest.raises(InputError, match="key_dim 8 there, 16 here"):
        initialization.load(str(averaged_run), build_model(other), other)


@pytest.mark.parametrize("kind", ["run", "file"])
def test_another_network_with_the_same_shapes_is_refused(averaged_run, tiny_file, kind):
    source = str(averaged_run if kind == "run" else tiny_file)
    same = ConfigDict(
        MODEL
        | {"dtype": "bfloat16", "batch_norm": "sync", "remat": "all"}  # how it is computed
        | {"prior": "rectified"}  # a setting that the older source lacks
    )
    initialization.load(source, build_model(same), same)
    other = ConfigDict(MODEL | {"reader": "dot:scale=False"})
    with pytest.raises(InputError, match="reader dot there, dot:scale=False here"):
        initialization.load(source, build_model(other), other)


def test_file_without_a_model_config_is_accepted_if_it_fits(
    tiny_file, tiny_model, tiny_variables, tmp_path, capsys
):
    source = str(tmp_path / "bare.safetensors")
    state_dict_files.write_safetensors(
        source, state_dict_files.read_state(tiny_file), {}, overwrite=False
    )
    loaded = initialization.load(source, tiny_model, CONFIG.model)
    assert_same_tree(loaded["params"], tiny_variables["params"])
    (line,) = capsys.readouterr().err.splitlines()
    assert source in line
    assert "resnet18 8/16/8" in line
    other = ConfigDict(MODEL | {"key_dim": 16})
    with pytest.raises(InputError, match="not resnet18 16/16"):
        initialization.load(source, build_model(other), other)


def test_restart_uses_the_checkpoint_that_the_run_started_from(
    averaged_run, tiny_model, tmp_path, monkeypatch
):
    config, run = CONFIG.copy_and_resolve_references(), epath.Path(tmp_path)
    config.init_from = str(averaged_run)
    with monkeypatch.context() as patch:
        patch.setattr(initialization, "load", lambda source, *_: {"from": source})
        start = initialization.check(tiny_model, config, run)
        assert start.source == str(averaged_run / "checkpoints" / "2")
        workdir.claim(run, config, start.source)
        patch.setattr(checkpoint, "checkpoint_steps", lambda path: [1, 2, 3])
        assert initialization.check(tiny_model, config, run) == start
        workdir.claim(run, config)  # as when it resumes from a checkpoint of its own
        assert initialization.check(tiny_model, config, run) == start
    workdir.claim(run, config, str(averaged_run / "checkpoints" / "9"))
    with pytest.raises(InputError, match=r"checkpoints/9 .* \[1, 2\]"):
        initialization.check(tiny_model, config, run)
    (tmp_path / "init_from.json").write_text("[]")
    with pytest.raises(InputError, match=r"init_from\.json"):
        initialization.check(tiny_model, config, run)


def test_int8_file_fits_the_features_that_it_rounded(tmp_path):
    config = FEATURED_CONFIG.copy_and_resolve_references()
    model = build_model(config.model)
    shapes = variable_shapes(model)
    trained = random_variables({name: shapes[name] for name in ("params", "batch_stats")})
    file = tmp_path / "int8.safetensors"
    qmra_jax.save(file, trained | {"frozen": FROZEN}, config.model, frozen_dtype="int8")
    config.init_from = str(file)

    def start(frozen):
        return initialization.check(model, config, epath.Path(tmp_path / "run"), frozen)

    assert_same_tree(start(FROZEN).loaded, trained | {"frozen": FROZEN})
    rounded = frozen_features.load(file, LIKE)
    assert_same_tree(start(rounded).loaded["frozen"], rounded)
    with pytest.raises(InputError, match="features"):
        start(frozen_features.from_names(random_state(seed=1), LIKE))
