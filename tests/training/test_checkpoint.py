"""Checkpoints: written in the background, kept by age and by score, read for evaluation."""

import json
import threading
from logging import WARNING

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qmra_jax import cli, weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import checkpoint, initialization
from qmra_jax.training.train_state import create_train_state
from qmra_jax.weights import frozen_features
from tests.support.runs import CONFIG, FEATURED_CONFIG, make_state, save, shapes
from tests.support.tiny import assert_same_tree, random_variables, saved_arrays


@pytest.mark.parametrize("ema", [False, True])
def test_state_is_restored_whole(tmp_path, ema):
    state = make_state(7, ema=ema)
    save(tmp_path, state)
    restored = checkpoint.restore(tmp_path, shapes(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_without_checkpoints_nothing_is_restored(tmp_path):
    assert checkpoint.restore(tmp_path, shapes(make_state(0))) is None
    assert checkpoint.checkpoint_steps(tmp_path) == []


def test_evaluation_gets_the_average(averaged_run, tiny_variables):
    config, variables = checkpoint.restore_model(averaged_run)
    assert config.model == CONFIG.model
    assert_same_tree(variables["params"], jax.tree.map(lambda x: x + 1, tiny_variables["params"]))
    assert_same_tree(variables["batch_stats"], tiny_variables["batch_stats"])


def test_missing_checkpoint_is_refused_with_the_steps_that_exist(averaged_run, tmp_path):
    with pytest.raises(InputError, match=r"step 9; .* \[1, 2\]"):
        checkpoint.restore_model(averaged_run, step=9)
    with pytest.raises(InputError, match=str(tmp_path)):
        checkpoint.restore_model(tmp_path)


def test_state_is_saved_in_the_background_as_it_was_when_save_was_called(tmp_path, monkeypatch):
    """The next steps reuse its donated memory before anything is written."""
    from orbax.checkpoint import type_handlers

    write, released = type_handlers.NumpyHandler._background_serialize, threading.Event()

    async def delayed(self, *args, **kwargs):
        assert released.wait(60)
        return await write(self, *args, **kwargs)

    monkeypatch.setattr(type_handlers.NumpyHandler, "_background_serialize", delayed)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: 0 * x - 5, tree), donate_argnums=0)
    state = make_state(1)
    expected = jax.tree.map(np.array, state.params)
    with checkpoint.open_checkpoints(tmp_path, 3) as manager:
        checkpoint.save(manager, state, checkpoint.make_meta(CONFIG, None))
        assert checkpoint.checkpoint_steps(tmp_path) == []  # incomplete ones do not count
        params = state.params
        for _ in range(3):
            params = overwrite(params)
        jax.block_until_ready(params)
        released.set()
    assert_same_tree(checkpoint.restore(tmp_path, shapes(make_state(1))).params, expected)


def test_newest_and_best_are_kept_and_reading_them_logs_no_warning(tmp_path, caplog):
    states = [make_state(step) for step in range(1, 6)]
    save(tmp_path, *states, keep=2, best=lambda steps: [min(steps)])
    caplog.clear()
    assert checkpoint.checkpoint_steps(tmp_path) == [1, 4, 5]
    checkpoint.restore(tmp_path, shapes(make_state(1)))
    assert [record.getMessage() for record in caplog.records if record.levelno >= WARNING] == []


def test_saved_step_is_not_saved_again(tmp_path):
    save(tmp_path, make_state(1))
    path = tmp_path / "checkpoints/1/_CHECKPOINT_METADATA"
    before = path.stat().st_mtime_ns
    save(tmp_path, make_state(1))
    assert path.stat().st_mtime_ns == before


class Featured:
    """A network with frozen features, their file, and a run with one checkpoint."""

    def __init__(self, folder):
        self.run, self.file = folder / "run", folder / "features.safetensors"
        self.config = FEATURED_CONFIG.copy_and_resolve_references()
        self.config.init_from, self.config.init.features = str(self.run), str(self.file)
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


def test_frozen_features_are_read_from_their_file_and_exported(featured, tmp_path):
    assert not [name for name in saved_arrays(featured.run) if "frozen" in name]
    restored = featured.restore()
    assert_same_tree(restored.frozen, featured.variables["frozen"])
    assert_same_tree(restored.ema_params, featured.variables["params"])
    out = tmp_path / "w.safetensors"
    with pytest.raises(SystemExit) as exit_:
        cli.main(["weights", "export", str(featured.run), str(out)])
    assert not exit_.value.code
    assert_same_tree(weights.load(out)[1], featured.variables)


def test_save_never_reads_frozen_features(tmp_path):
    frozen = jnp.ones(3)
    frozen.delete()
    with checkpoint.open_checkpoints(tmp_path, 1) as manager:
        meta = checkpoint.make_meta(CONFIG, None)
        checkpoint.save(manager, make_state(1).replace(frozen=frozen), meta)
    assert checkpoint.checkpoint_steps(tmp_path) == [1]


def test_other_features_than_those_trained_with_are_refused(featured, tmp_path):
    other = initialization.load_frozen(featured.shapes, featured.config)
    other = jax.tree.map(lambda x: 2 * x, other)
    with pytest.raises(InputError, match=r"features\.safetensors"):
        initialization.check(featured.model, featured.config, tmp_path / "new", other)
    featured.write_file(factor=2)
    for read in (featured.restore, lambda: checkpoint.restore_model(featured.run)):
        with pytest.raises(InputError, match=r"features\.safetensors .* digest"):
            read()
    featured.file.unlink()
    with pytest.raises(InputError, match=r"features\.safetensors"):
        checkpoint.restore_model(featured.run)


def test_older_checkpoint_without_a_digest_had_no_features(featured, tmp_path):
    save(tmp_path / "plain", make_state(3))
    for run in (tmp_path / "plain", featured.run):
        meta = run / "checkpoints/3/meta/metadata"
        old = {k: v for k, v in json.loads(meta.read_text()).items() if k != "frozen"}
        meta.write_text(json.dumps(old))
    assert int(checkpoint.restore(tmp_path / "plain", shapes(make_state(0))).step) == 3
    with pytest.raises(InputError, match="expected none"):
        featured.restore()
