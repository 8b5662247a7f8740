"""Training runs on a tiny dataset: their output, their errors, and evaluation of the result."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import evaluate
import train
from qmra_jax import errors, masks, weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import checkpoint, initialization, nonfinite
from qmra_jax.weights import frozen_features
from tests.support.commands import qmra
from tests.support.tiny import (
    TINY,
    assert_same_run,
    assert_same_tree,
    metric_lines,
    random_variables,
    saved_arrays,
)
from tests.support.tiny_config import STEPS

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture
def config(tiny_config):
    return tiny_config.copy_and_resolve_references()


@pytest.fixture
def small_config(miniature, miniature_config):
    """Config of a run of `Miniature`."""
    return miniature_config.copy_and_resolve_references()


def test_run_writes_metrics_pictures_and_checkpoints(finished_run):
    lines = metric_lines(finished_run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    first, last = lines[0], lines[-1]
    terms = sum(first[f"loss_{name}"] for name in ("box", "mask", "refined"))
    assert first["loss"] == pytest.approx(terms, rel=1e-5)
    assert first["learning_rate"] == pytest.approx(1e-3)
    assert 0 <= last["J_refined"] <= 1
    assert last["grad_norm"] > 0
    assert last["param_norm"] > 0
    assert last["host_memory_gib"] > 0.1
    assert "triplets_per_second" not in first  # it compiled
    assert last["triplets_per_second"] > 0
    assert 0 <= last["data_wait_share"] <= 1
    assert last["loss"] < first["loss"]
    for name in ("read_entropy_1", "read_entropy_2", "read_peak_1", "read_peak_2"):
        assert 0 < last[name] <= 1.001
    assert (finished_run / "pictures" / f"triplets-{STEPS:07d}.png").stat().st_size > 1000
    assert list((finished_run / "tensorboard").iterdir())
    assert checkpoint.checkpoint_steps(finished_run)[-3:] == [5, 8, STEPS]


def test_real_network_resumes_bitwise_and_repeats_a_missing_validation(
    tiny_config, finished_run, tmp_path
):
    run = shutil.copytree(finished_run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    scores = run / "validation" / f"{STEPS:07d}.json"
    expected = scores.read_text()
    for _ in range(2):  # from the checkpoint of step 8; then only the validation
        scores.unlink()
        assert train.train(tiny_config, run) == 0
        assert scores.read_text() == expected
    assert_same_run(run, finished_run)
    names = saved_arrays(run)
    assert any("opt_state" in name and "mu" in name for name in names)
    assert any(name.startswith("training/params") for name in names)  # beside their average
    assert all(np.isfinite(array).all() for array in names.values())


def test_weights_of_a_run_are_shown(finished_run, capsys):
    assert qmra("weights", "show", finished_run) == 0
    printed = capsys.readouterr().out
    assert "parameters" in printed
    assert re.search(rf"key_dim +{TINY['key_dim']}\n", printed)


def test_training_changes_every_part_of_the_network(config, finished_run):
    before = train.init_variables(build_model(config.model), config.seed)["params"]
    after = checkpoint.restore_model(finished_run)[1]["params"]
    for name in before:
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before[name], after[name])
        assert max(jax.tree.leaves(moved)) > 1e-4, name


def test_initial_checkpoint_is_noted(small_config, miniature_run, tmp_path):
    small_config.init_from, small_config.steps = str(miniature_run), 1
    with pytest.MonkeyPatch.context() as patch:
        variables = train.init_variables(train.build_model(small_config.model), 0)
        patch.setattr(initialization, "load", lambda *_: variables)
        assert train.train(small_config, tmp_path / "run") == 0
    note = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert note == {
        "init_from": str(miniature_run),
        "resolved": f"{miniature_run}/checkpoints/{STEPS}",
    }


def test_divergence_before_the_first_checkpoint_saves_the_last_good_state(small_config, tmp_path):
    """The steps are so large that the second overflows."""
    small_config.optimizer.learning_rate = 1e18
    small_config.log_every = 3
    run = tmp_path / "run"
    with pytest.raises(nonfinite.LossNotFinite, match=r"^step 2: .* step 1 is saved") as error:
        train.train(small_config, run)
    assert f"--config.init_from={run}/checkpoints/1 " in str(error.value)
    assert checkpoint.checkpoint_steps(run) == [1]
    with pytest.raises(nonfinite.LossNotFinite, match=r"^step 2: "):  # resumed, it fails again
        train.train(small_config, run)


def test_nonfinite_loss_ends_the_run_and_keeps_the_last_good_checkpoint(
    small_config, miniature_run, tmp_path, monkeypatch
):
    """The weights of the decoder are infinite when the run resumes after step 8."""
    run = tmp_path / "run"
    shutil.copytree(miniature_run, run)
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    restore = checkpoint.restore

    def restore_infinite(*args):
        state = restore(*args)
        state.params["box_decoder"] = jax.tree.map(
            lambda x: np.full_like(x, np.inf), state.params["box_decoder"]
        )
        return state

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "restore", restore_infinite)
        with pytest.raises(nonfinite.LossNotFinite, match=r"^step 9: .* refined nan.* \./"):
            train.train(small_config, run)
    assert checkpoint.checkpoint_steps(run) == [4, 8]
    assert [line["step"] for line in metric_lines(run)] == list(range(1, 9))
    assert train.train(small_config, run) == 0  # the checkpoint is good


def test_given_steps_are_profiled(small_config, tmp_path):
    small_config.steps, small_config.profile = 2, "2:2"
    assert train.train(small_config, tmp_path / "run") == 0
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_network_with_frozen_features_trains_resumes_and_is_exported(config, tmp_path):
    """With a PCA of the keys, a moving average and an evaluation; resumed for the last step."""
    features, config.steps, config.checkpoint_every = tmp_path / "dino.safetensors", 2, 1
    config.model.features = "dinov2_vits14:width=24,depth=2,heads=2,grid=5"
    config.init.update(features=str(features), key_projection="pca")
    config.eval.every = 2
    shapes = variable_shapes(build_model(config.model))
    frozen = random_variables(shapes)["frozen"]
    frozen_features.save(features, frozen)
    assert train.train(config, tmp_path / "run") == 0
    end = saved_arrays(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "2")
    assert train.train(config, tmp_path / "run") == 0
    for name, array in saved_arrays(tmp_path / "run").items():
        np.testing.assert_array_equal(array, end[name], err_msg=name)
    config, variables = checkpoint.restore_model(tmp_path / "run")
    weights.save(tmp_path / "w.safetensors", variables, config.model)
    assert_same_tree(weights.load(tmp_path / "w.safetensors")[1]["frozen"], frozen)


def test_checkpoints_without_their_config_are_refused(config, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "5").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(InputError, match=r"config\.json"):
            train.train(config, run)
        (run / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"log_every": 0}, "log_every"),
        ({"batch_size": 3}, "batch_size"),
        ({"data": {"crop": 40}}, r"data\.crop"),
        ({"data": {"videos": ("gone:train",)}}, "gone"),
        ({"init_from": "runs/gone"}, "init_from runs/gone"),
        ({"init": {"encoders": "nowhere.pth"}}, r"nowhere\.pth"),
        ({"model": {"aggregator": "nothing"}}, "aggregator 'nothing'"),
        ({"eval": {"videos": ".:test"}}, "2016/test"),
        ({"eval": {"videos": "gone:val"}}, "gone"),
        ({"eval": {"protocol": "davis2017", "videos": ".:val:2016"}}, "object 1"),
        ({"eval": {"videos": ".:val@2"}}, "@REPEAT"),
        ({"eval": {"videos": "gs://bucket/davis:val"}}, "gs://bucket/davis:val"),
    ],
)
def test_bad_setting_is_refused_before_the_workdir_is_touched(config, tmp_path, change, named):
    config.update(change)
    with pytest.raises(InputError, match=named):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_log_every_may_change_when_a_run_resumes(config, finished_run, capsys):
    config.log_every = 7
    train.train(config, finished_run)
    assert f"all {STEPS} steps" in capsys.readouterr().out


def test_workdir_that_cannot_be_written_is_refused(small_config, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file/run"):
        train.train(small_config, tmp_path / "file" / "run")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match=str(tmp_path / "run")):
        train.train(small_config, tmp_path / "run")


@pytest.fixture
def run_evaluate(tiny_davis, monkeypatch):
    def run(*arguments):
        command = ["evaluate.py", "--dataset=davis2016", f"--data_dir={tiny_davis}"]
        monkeypatch.setattr(sys, "argv", [*command, *arguments])
        evaluate.main()

    return run


def test_workdir_and_its_weights_file_are_evaluated_as_during_training(
    finished_run, tmp_path, run_evaluate, capsys
):
    config, variables = checkpoint.restore_model(finished_run)
    weights.save(tmp_path / "w.safetensors", variables, config.model, metadata={"short_side": "32"})
    workdir, file = f"--workdir={finished_run}", f"--weights={tmp_path / 'w.safetensors'}"
    results = []
    for name, source in (("run", workdir), ("file", file)):
        output = tmp_path / name
        run_evaluate(source, f"--output={output}", "--short_side=0")
        results.append(json.loads((output / "scores.json").read_text()))
        labels = masks.read_labels(output / "Annotations" / "right" / "00004.png")
        assert labels.shape == (44, 60)
        assert "| left" in capsys.readouterr().out
    of_run, of_file = results
    for measure in ("J", "F"):
        assert set(of_run[measure]) == {"mean", "recall", "decay"}
        assert of_run[measure] == of_file[measure]
    assert set(of_run["sequences"]) == {"left", "right"}
    assert of_run["fps"] > 0
    assert of_file["short_side"] == 0

    # The validation during training has the same scores.
    lines = metric_lines(finished_run, "validation/J&F")
    assert [line["step"] for line in lines] == [5, STEPS]
    validated = json.loads((finished_run / "validation" / f"{STEPS:07d}.json").read_text())
    assert validated["J&F"] == lines[-1]["validation/J&F"]
    assert set(validated["sequences"]) == {"left", "right"}
    for measure in ("J", "F"):
        assert validated[measure] == pytest.approx(of_run[measure]["mean"], abs=1e-9)

    # Without --short_side, the size stored in the weights file.
    run_evaluate(file, f"--output={tmp_path / 'stored'}")
    assert json.loads((tmp_path / "stored" / "scores.json").read_text())["short_side"] == 32

    with pytest.raises(SystemExit) as exit_:
        run_evaluate(workdir, f"--output={tmp_path / 'run'}", "--interval=3")
    assert exit_.value.code == 2
    assert "interval 10 instead of 3" in capsys.readouterr().err


def test_evaluation_never_writes_into_the_dataset(finished_run, tiny_davis, run_evaluate, capsys):
    path = tiny_davis / "Annotations/480p/left/00001.png"
    before = path.read_bytes()
    with pytest.raises(SystemExit):
        run_evaluate(f"--workdir={finished_run}", f"--output={tiny_davis}", "--overwrite")
    assert str(tiny_davis) in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config=configs/small.py", "--config.nope=1"], "config key 'nope'"),
        (["--config=configs/small.py", "--config.modle.reader=l2"], "did you mean 'model'"),
        (["--config=configs/small.py", "--config.data.crp=64"], "did you mean 'crop'"),
        (["--config=configs/nope.py"], "configs/nope.py"),
        (["--config=configs/pretrain_static.py:lvis"], "pretrain_static.py:lvis: argument 'lvis'"),
    ],
)
def test_bad_option_is_one_line_and_status_2(arguments, named, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--workdir=nowhere", *arguments])
    with pytest.raises(SystemExit) as exit_:
        errors.run_app(train.main)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line


def test_bad_data_is_one_line_and_status_2(tmp_path):
    command = ["train.py", "--config=configs/small.py", "--config.data.root=/nowhere"]
    done = subprocess.run(
        [sys.executable, *command, f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "/nowhere" in line
    assert not (tmp_path / "run").exists()
