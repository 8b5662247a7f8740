"""Checkpoints: written in the background, kept by age and by score, read for evaluation."""

import json
import threading
from logging import WARNING

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from ml_collections import ConfigDict

from qmra_jax import build_model, cli, weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes
from qmra_jax.training import checkpoint, initialization, workdir
from qmra_jax.training.train_state import create_train_state
from qmra_jax.weights import frozen_features, state_dict_files
from tests.support.tiny import TINY, assert_same_tree, random_variables, saved_arrays

# As an older version wrote it: of the settings that there are, some are missing.
MODEL = TINY | {"reader": "dot", "dtype": "float32", "batch_norm": "frozen"}
CONFIG = ConfigDict({"model": MODEL, "init_from": "", "init": {"encoders": ""}})

FEW = {
    "params": {"box_decoder": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}},
    "batch_stats": {"mean": np.ones(4, np.float32)},
}


def make_state(step, variables=FEW, ema=False):
    state = create_train_state(variables, optax.scale_by_adam(), ema=ema)
    if ema:
        state = state.replace(ema_params=jax.tree.map(lambda x: x + 1, state.params))
    return state.replace(step=jnp.int32(step))


@pytest.fixture(scope="module")
def averaged_run(tiny_variables, tmp_path_factory):
    """A run of the tiny network with checkpoints 1 and 2, whose average is everywhere 1 higher."""
    run = tmp_path_factory.mktemp("averaged")
    save(run, *(make_state(step, tiny_variables, ema=True) for step in (1, 2)))
    return run


@pytest.fixture(scope="module")
def tiny_file(tiny_variables, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "w.safetensors"
    weights.save(path, tiny_variables, CONFIG.model)
    return path


def save(run, *states, keep=3, best=lambda steps: (), config=CONFIG):
    with checkpoint.open_checkpoints(run, keep, best) as manager:
        for state in states:
            checkpoint.save(manager, state, config)


def shapes(state):
    return jax.eval_shape(lambda: state)


@pytest.mark.parametrize("ema", [False, True])
def test_a_state_comes_back_whole(tmp_path, ema):
    state = make_state(7, ema=ema)
    save(tmp_path, state)
    restored = checkpoint.restore(tmp_path, shapes(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_where_nothing_is_saved_nothing_is_restored(tmp_path):
    assert checkpoint.restore(tmp_path, shapes(make_state(0))) is None
    assert checkpoint.checkpoint_steps(tmp_path) == []


def test_evaluation_gets_the_average(averaged_run, tiny_variables):
    config, variables = checkpoint.restore_model(averaged_run)
    assert config.model.to_dict() == MODEL
    assert_same_tree(variables["params"], jax.tree.map(lambda x: x + 1, tiny_variables["params"]))
    assert_same_tree(variables["batch_stats"], tiny_variables["batch_stats"])


def test_a_state_is_saved_in_the_background_as_it_was_when_it_was_given(tmp_path, monkeypatch):
    """The next steps reuse its donated memory before anything is written."""
    from orbax.checkpoint import type_handlers

    write, released = type_handlers.NumpyHandler._background_serialize, threading.Event()

    async def held_back(self, *args, **kwargs):
        assert released.wait(60)
        return await write(self, *args, **kwargs)

    monkeypatch.setattr(type_handlers.NumpyHandler, "_background_serialize", held_back)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: 0 * x - 5, tree), donate_argnums=0)
    state = make_state(1)
    with checkpoint.open_checkpoints(tmp_path, 3) as manager:
        checkpoint.save(manager, state, CONFIG)
        assert checkpoint.checkpoint_steps(tmp_path) == []  # what is half written does not count
        params = state.params
        for _ in range(3):
            params = overwrite(params)
        jax.block_until_ready(params)
        released.set()
    restored = checkpoint.restore(tmp_path, shapes(make_state(1)))
    assert_same_tree(restored.params, FEW["params"])


def test_the_newest_and_the_best_are_kept(tmp_path):
    states = [make_state(step) for step in range(1, 6)]
    save(tmp_path, *states, keep=2, best=lambda steps: [min(steps)])
    assert checkpoint.checkpoint_steps(tmp_path) == [1, 4, 5]


def test_reading_checkpoints_warns_of_nothing(tmp_path, caplog):
    save(tmp_path, make_state(1))
    caplog.clear()
    checkpoint.restore(tmp_path, shapes(make_state(1)))
    assert [record.getMessage() for record in caplog.records if record.levelno >= WARNING] == []


def test_a_step_that_is_there_is_not_saved_again(tmp_path):
    save(tmp_path, make_state(1))
    before = (tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA").stat().st_mtime_ns
    save(tmp_path, make_state(1))
    assert (tmp_path / "checkpoints/1/_CHECKPOINT_METADATA").stat().st_mtime_ns == before


def test_a_run_starts_from_anothers_newest_or_chosen_weights(
    averaged_run, tiny_file, tiny_model, tiny_variables
):
    average = jax.tree.map(lambda x: x + 1, tiny_variables["params"])
    for source in (averaged_run, averaged_run / "checkpoints" / "1"):
        taken = initialization.load(str(source), tiny_model, CONFIG.model)
        assert_same_tree(taken["params"], average)
    taken = initialization.load(str(tiny_file), tiny_model, CONFIG.model)
    assert_same_tree(taken["params"], tiny_variables["params"])


def test_another_architecture_is_refused_with_both_named(averaged_run):
    other = ConfigDict(MODEL | {"key_dim": 16})
    with pytest.raises(InputError, match="key_dim 8 there, 16 here"):
        initialization.load(str(averaged_run), build_model(other), other)


@pytest.mark.parametrize(
    "source",
    ["nowhere", "no.safetensors", "gs://bucket/w.safetensors", "{run}/checkpoints"],
)
def test_weights_that_are_not_there_are_refused_by_their_name(averaged_run, tiny_model, source):
    source = source.format(run=averaged_run)
    with pytest.raises(InputError, match=f"init_from {source}: "):
        initialization.load(source, tiny_model, CONFIG.model)


def test_a_checkpoint_that_is_not_there_is_told_with_those_there_are(averaged_run, tmp_path):
    with pytest.raises(InputError, match=r"step 9; it has \[1, 2\]"):
        checkpoint.restore_model(averaged_run, step=9)
    with pytest.raises(InputError, match=str(tmp_path)):
        checkpoint.restore_model(tmp_path)


@pytest.mark.parametrize("kind", ["run", "file"])
def test_weights_of_another_network_with_the_same_shapes_are_refused(averaged_run, tiny_file, kind):
    source = str(averaged_run if kind == "run" else tiny_file)
    same = ConfigDict(
        MODEL
        | {"dtype": "bfloat16", "batch_norm": "sync", "remat": "all"}  # how, not what
        | {"prior": "rectified"}  # which the source is too old to know
    )
    initialization.load(source, build_model(same), same)
    other = ConfigDict(MODEL | {"reader": "dot:scale=False"})
    with pytest.raises(InputError, match="reader dot there, dot:scale=False here"):
        initialization.load(source, build_model(other), other)


def test_a_weights_file_that_says_nothing_of_its_network_is_taken_if_it_fits(
    tiny_file, tiny_model, tiny_variables, tmp_path, capsys
):
    state_dict_files.write_safetensors(
        tmp_path / "bare.safetensors", state_dict_files.read_state(tiny_file), {}, overwrite=False
    )
    source = str(tmp_path / "bare.safetensors")
    taken = initialization.load(source, tiny_model, CONFIG.model)
    assert_same_tree(taken["params"], tiny_variables["params"])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert source in told[0]
    assert "resnet18 8/16/8" in told[0]
    other = ConfigDict(MODEL | {"key_dim": 16})
    with pytest.raises(InputError, match="not resnet18 16/16"):
        initialization.load(source, build_model(other), other)


def test_a_restart_takes_the_checkpoint_that_the_run_began_from(
    averaged_run, tiny_model, tmp_path, monkeypatch
):
    config = CONFIG.copy_and_resolve_references()
    config.init_from = str(averaged_run)
    run = epath.Path(tmp_path)
    monkeypatch.setattr(initialization, "load", lambda source, *_: {"from": source})
    begun = initialization.check(tiny_model, config, run)
    assert begun.source == str(averaged_run / "checkpoints" / "2")
    workdir.claim(run, config, begun.source)
    monkeypatch.setattr(checkpoint, "checkpoint_steps", lambda path: [1, 2, 3])
    assert initialization.check(tiny_model, config, run) == begun
    workdir.claim(run, config)  # as when it goes on from a checkpoint of its own
    assert initialization.check(tiny_model, config, run) == begun

    config.init_from = "elsewhere"  # the note is of another start
    monkeypatch.setattr(initialization, "_resolve", lambda source: f"{source}/checkpoints/7")
    assert initialization.check(tiny_model, config, run).source == "elsewhere/checkpoints/7"


def test_a_restart_whose_beginning_is_gone_is_refused(averaged_run, tiny_model, tmp_path):
    config = CONFIG.copy_and_resolve_references()
    config.init_from = str(averaged_run)
    workdir.claim(epath.Path(tmp_path), config, str(averaged_run / "checkpoints" / "9"))
    with pytest.raises(InputError, match=r"checkpoints/9 .* it has \[1, 2\]"):
        initialization.check(tiny_model, config, epath.Path(tmp_path))
    (tmp_path / "init_from.json").write_text("[]")
    with pytest.raises(InputError, match=r"init_from\.json is damaged"):
        initialization.check(tiny_model, config, epath.Path(tmp_path))


class Featured:
    """A network with frozen features, a file of these, and a run of one checkpoint."""

    def __init__(self, folder):
        self.run, self.file = folder / "run", folder / "features.safetensors"
        features = "dinov2_vits14:width=24,depth=2,heads=2,grid=5"
        self.config = ConfigDict(
            {"model": MODEL | {"features": features}, "init_from": str(self.run)}
            | {"init": {"encoders": "", "features": str(self.file), "key_projection": "random"}}
        )
        self.model = build_model(self.config.model)
        self.shapes = variable_shapes(self.model)
        self.variables = random_variables(self.shapes)
        self.state = create_train_state(self.variables, optax.identity(), ema=True)
        self.write_file()
        save(self.run, self.state.replace(step=jnp.int32(3)), config=self.config)

    def write_file(self, factor=1.0):
        frozen = jax.tree.map(lambda x: np.float32(factor) * x, self.variables["frozen"])
        frozen_features.save(self.file, frozen, overwrite=True)

    def restore(self):
        frozen = initialization.load_frozen(self.shapes, self.config)
        return checkpoint.restore(self.run, shapes(self.state).replace(frozen=frozen))


@pytest.fixture
def featured(tmp_path):
    return Featured(tmp_path)


def test_frozen_features_are_not_saved_but_read_from_their_file_and_exported(featured, tmp_path):
    assert not [name for name in saved_arrays(featured.run) if "frozen" in name]
    restored = featured.restore()
    assert_same_tree(restored.frozen, featured.variables["frozen"])
    assert_same_tree(restored.ema_params, featured.variables["params"])
    out = tmp_path / "w.safetensors"
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", "export", str(featured.run), str(out)])
    assert not ended.value.code
    assert_same_tree(weights.load(out)[1], featured.variables)


def test_other_features_than_a_checkpoint_was_trained_with_are_refused(featured):
    other = initialization.load_frozen(featured.shapes, featured.config)
    other = jax.tree.map(lambda x: 2 * x, other)
    with pytest.raises(InputError, match=r"features are other ones .*features\.safetensors"):
        initialization.check(featured.model, featured.config, epath.Path("nowhere"), other)
    featured.write_file(factor=2)
    for read in (featured.restore, lambda: checkpoint.restore_model(featured.run)):
        with pytest.raises(InputError, match=r"features\.safetensors .* put the file back"):
            read()
    featured.file.unlink()
    with pytest.raises(InputError, match=r"features\.safetensors"):
        checkpoint.restore_model(featured.run)


def test_a_checkpoint_that_says_nothing_of_features_had_none(featured, tmp_path):
    """As all were before there were any."""
    save(tmp_path / "plain", make_state(3))
    for run in (tmp_path / "plain", featured.run):
        meta = run / "checkpoints/3/meta/metadata"
        old = {k: v for k, v in json.loads(meta.read_text()).items() if k != "frozen"}
        meta.write_text(json.dumps(old))
    assert int(checkpoint.restore(tmp_path / "plain", shapes(make_state(0))).step) == 3
    with pytest.raises(InputError, match="expected none"):
        featured.restore()


def test_a_setting_that_changes_no_number_may_differ_when_a_run_goes_on(tmp_path):
    config = ConfigDict({"seed": 0, "eval": {"every": 0}, "log_every": 1})
    workdir.claim(tmp_path, config)
    config.log_every, config.eval.every = 5, 100
    workdir.check_run(tmp_path, config)
    config.seed = 1
    with pytest.raises(InputError, match=r"another config \(seed: 0 there, 1 here\)"):
        workdir.check_run(tmp_path, config)


def test_a_bucket_that_cannot_be_reached_is_one_line(monkeypatch):
    path = epath.Path("gs://no-such-bucket/run")

    def fail(self, *args):
        raise OSError("could not resolve host\nwhen reading metadata")

    monkeypatch.setattr(type(path), "exists", fail)
    monkeypatch.setattr(type(path), "write_text", fail)
    with pytest.raises(InputError, match=r"run cannot be reached \(could not resolve host\)"):
        workdir.check_run(path, CONFIG)
    with pytest.raises(InputError, match="cannot write to gs://no-such-bucket/run"):
        workdir.claim(path, CONFIG)
