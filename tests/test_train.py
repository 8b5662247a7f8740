"""One real training run on a tiny dataset: what it leaves, what it refuses, how it is evaluated."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import evaluate
import train
from qmra_jax import masks, weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import checkpoint, initialization, nonfinite
from qmra_jax.weights import frozen_features
from tests.support.invariance import Miniature
from tests.support.tiny import assert_same_tree, metric_lines, random_variables, saved_arrays
from tests.support.tiny_config import STEPS

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture
def config(tiny_config):
    return tiny_config.copy_and_resolve_references()


@pytest.fixture
def whole(finished_run):
    return finished_run


def parameters(workdir):
    return jax.tree.map(np.asarray, checkpoint.restore_model(workdir)[1])


def test_a_run_leaves_metrics_pictures_and_checkpoints(whole):
    lines = metric_lines(whole)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    first, last = lines[0], lines[-1]
    parts = sum(first[f"loss_{name}"] for name in ("box", "mask", "refined"))
    assert first["loss"] == pytest.approx(parts, rel=1e-5)
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
    assert (whole / "pictures" / f"triplets-{STEPS:07d}.png").stat().st_size > 1000
    assert list((whole / "tensorboard").iterdir())
    assert checkpoint.checkpoint_steps(whole)[-3:] == [5, 8, STEPS]


def test_a_run_is_evaluated_on_held_out_videos_as_evaluate_py_does(
    whole, tiny_davis, tmp_path, monkeypatch
):
    lines = metric_lines(whole, "validation/J&F")
    assert [line["step"] for line in lines] == [5, 10]
    scores = json.loads((whole / "validation" / f"{STEPS:07d}.json").read_text())
    assert scores["J&F"] == lines[-1]["validation/J&F"]
    assert set(scores["sequences"]) == {"left", "right"}
    arguments = [f"--workdir={whole}", f"--data_dir={tiny_davis}", f"--output={tmp_path}"]
    run_evaluate(monkeypatch, *arguments)
    expected = json.loads((tmp_path / "scores.json").read_text())
    assert scores["J"] == pytest.approx(expected["J"]["mean"], abs=1e-9)
    assert scores["F"] == pytest.approx(expected["F"]["mean"], abs=1e-9)


def test_a_run_notes_which_checkpoint_it_began_from(config, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "build_model", lambda config: Miniature(config.batch_norm))
    variables = train.init_variables(Miniature(config.model.batch_norm), 0)
    monkeypatch.setattr(initialization, "load", lambda *_: variables)
    config.init_from, config.steps, config.eval.every = str(whole), 1, 0
    assert train.train(config, tmp_path / "run") == 0
    note = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert note == {"init_from": str(whole), "resolved": f"{whole}/checkpoints/{STEPS}"}


def test_a_run_that_diverges_before_its_first_checkpoint_saves_the_last_good_state(
    config, tmp_path, monkeypatch
):
    """Steps so large that the second already meets numbers too large."""
    monkeypatch.setattr(train, "build_model", lambda config: Miniature(config.batch_norm))
    config.optimizer.learning_rate = 1e18
    config.eval.every, config.log_every = 0, 3
    run = tmp_path / "run"
    with pytest.raises(nonfinite.LossNotFinite) as stop:
        train.train(config, run)
    told = str(stop.value)
    assert told.startswith("step 2: the loss or its gradient is not finite.")
    assert "the state after step 1 is saved" in told
    assert f"--config.init_from={run}/checkpoints/1 and a lower learning rate" in told
    assert checkpoint.checkpoint_steps(run) == [1]
    with pytest.raises(nonfinite.LossNotFinite, match="step 2: "):  # which it would meet again
        train.train(config, run)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    config, whole, tmp_path, monkeypatch
):
    """The weights of one decoder are infinite when the run goes on after step 8."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    restore = checkpoint.restore

    def spoil(*args):
        state = restore(*args)
        state.params["refine_decoder"] = jax.tree.map(
            lambda x: np.full_like(x, np.inf), state.params["refine_decoder"]
        )
        return state

    monkeypatch.setattr(checkpoint, "restore", spoil)
    with pytest.raises(nonfinite.LossNotFinite) as stop:
        train.train(config, run)
    told = str(stop.value)
    assert told.startswith("step 9: the loss or its gradient is not finite. Loss parts: box ")
    assert "refined nan" in told
    assert "not finite on ./" in told  # and the names of the videos
    assert checkpoint.checkpoint_steps(run) == [5, 8]
    assert [line["step"] for line in metric_lines(run)] == list(range(1, 9))
    monkeypatch.undo()
    assert train.train(config, run) == 0  # what was kept is good


def test_chosen_steps_are_profiled(config, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(STEPS))
    config.profile = f"{STEPS}:{STEPS}"
    config.eval.every = 0
    assert train.train(config, tmp_path / "run") == 0
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_a_network_with_frozen_features_trains_goes_on_and_is_exported(config, tmp_path):
    """Two steps, then the last one again; keys from a PCA, a moving average, an evaluation."""
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


def test_training_changes_every_part_of_the_network(config, whole):
    before = train.init_variables(build_model(config.model), config.seed)["params"]
    after = parameters(whole)["params"]
    for name in before:
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before[name], after[name])
        assert max(jax.tree.leaves(moved)) > 1e-4, name


def test_checkpoints_without_their_config_are_not_gone_on_from(config, whole, tmp_path):
    shutil.copytree(whole / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match=r"checkpoints but no config\.json"):
        train.train(config, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        train.train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "says"),
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
def test_a_bad_setting_is_refused_before_the_workdir_is_touched(config, tmp_path, change, says):
    config.update(change)
    with pytest.raises(InputError, match=says):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_how_often_to_log_may_change_when_a_run_goes_on(config, whole, capsys):
    config.log_every = 7
    train.train(config, whole)
    assert "has all 10 steps already" in capsys.readouterr().out


def test_a_workdir_that_cannot_be_written_is_refused(config, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file/run"):
        train.train(config, tmp_path / "file" / "run")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="no permission to write there"):
        train.train(config, tmp_path / "run")


def run_evaluate(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--dataset=davis2016", *map(str, arguments)])
    evaluate.main()


def test_evaluation_of_a_workdir_and_of_its_weights_file_agree(
    whole, tiny_davis, tmp_path, monkeypatch, capsys
):
    config, variables = checkpoint.restore_model(whole)
    weights.save(tmp_path / "w.safetensors", variables, config.model, metadata={"short_side": "32"})
    source = {
        "run": f"--workdir={whole}",
        "file": f"--weights={tmp_path / 'w.safetensors'}",
    }
    scores = {}
    for name, argument in source.items():
        output = tmp_path / name
        own = "--short_side=0"
        run_evaluate(monkeypatch, argument, f"--data_dir={tiny_davis}", f"--output={output}", own)
        scores[name] = json.loads((output / "scores.json").read_text())
        labels = masks.read_labels(output / "Annotations" / "right" / "00004.png")
        assert labels.shape == (44, 60)
        assert "| left" in capsys.readouterr().out
    for measure in ("J", "F"):
        assert set(scores["run"][measure]) == {"mean", "recall", "decay"}
        assert scores["run"][measure] == scores["file"][measure]
    assert set(scores["run"]["sequences"]) == {"left", "right"}
    assert scores["run"]["fps"] > 0
    assert scores["file"]["short_side"] is None

    # Without --short_side, the size that the weights say suits them.
    run_evaluate(
        monkeypatch, source["file"], f"--data_dir={tiny_davis}", f"--output={tmp_path / 'suited'}"
    )
    assert json.loads((tmp_path / "suited" / "scores.json").read_text())["short_side"] == 32

    output = f"--output={tmp_path / 'run'}"
    with pytest.raises(SystemExit) as stop:
        run_evaluate(monkeypatch, source["run"], f"--data_dir={tiny_davis}", output, "--interval=3")
    assert stop.value.code == 2
    assert "holds results already" in capsys.readouterr().err


def test_evaluation_never_writes_into_the_dataset(whole, tiny_davis, monkeypatch, capsys):
    before = (tiny_davis / "Annotations/480p/left/00001.png").read_bytes()
    with pytest.raises(SystemExit):
        run_evaluate(
            monkeypatch,
            f"--workdir={whole}",
            f"--data_dir={tiny_davis}",
            f"--output={tiny_davis}",
            "--overwrite",
        )
    assert "is the dataset itself" in capsys.readouterr().err
    assert (tiny_davis / "Annotations/480p/left/00001.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config=configs/small.py", "--config.nope=1"], "config key 'nope': there is none"),
        (["--config=configs/nope.py"], "configs/nope.py"),
        (
            ["--config=configs/pretrain_static.py:lvis"],
            "pretrain_static.py:lvis: argument 'lvis': expected coco after the colon, or none",
        ),
        (["--config=configs/small.py", "--config.data.root=/nowhere"], "/nowhere"),
    ],
)
def test_a_bad_command_is_one_line_and_status_2(arguments, says, tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", f"--workdir={tmp_path / 'run'}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert len(errors) == 1
    assert says in errors[0]
    assert not (tmp_path / "run").exists()
