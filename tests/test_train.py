"""One real training run on a tiny dataset: interrupted, resumed, evaluated, exported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import evaluate
import train
from configs import common
from qmra_jax import checkpoint, masks, weights
from qmra_jax.errors import InputError
from tests.tiny import TINY, assert_same_tree

ROOT = Path(__file__).parents[1]
STEPS = 4


@pytest.fixture(scope="module")
def config(tiny_davis):
    config = common.get_config()
    config.model.update(TINY)
    config.data.root = str(tiny_davis)
    config.data.videos = (".:train",)
    config.data.video_share = ((0, 1.0),)
    config.data.crop = 32
    config.batch_size = 2
    config.steps = STEPS
    config.optimizer.learning_rate = 1e-3
    config.log_every = config.checkpoint_every = 2
    config.picture_every = STEPS
    return config


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train.train(config, workdir)
    return workdir


def parameters(workdir):
    return jax.tree.map(np.asarray, checkpoint.restore_model(workdir)[1])


def test_a_run_leaves_metrics_pictures_and_checkpoints(whole):
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    parts = sum(lines[0][f"loss_{name}"] for name in ("box", "mask", "refined"))
    assert lines[0]["loss"] == pytest.approx(parts, rel=1e-5)
    assert lines[0]["learning_rate"] == pytest.approx(1e-3)
    assert 0 <= lines[0]["J_refined"] <= 1
    assert (whole / "pictures" / f"triplets-{STEPS:07d}.png").stat().st_size > 1000
    assert list((whole / "tensorboard").iterdir())


def test_an_interrupted_run_ends_with_the_very_same_parameters(
    config, whole, tmp_path, monkeypatch
):
    def cut_off(dataset, batches=train.batches):
        for number, batch in enumerate(batches(dataset)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train, "batches", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train.train(config, tmp_path / "run")
    train.train(config, tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert [line["step"] for line in lines] == [2, 4]
    assert_same_tree(parameters(tmp_path / "run"), parameters(whole))


def test_training_changes_every_part_of_the_network(config, whole):
    from qmra_jax.model import build_model
    from qmra_jax.train_state import init_variables

    before = init_variables(build_model(config.model), config.seed)["params"]
    after = parameters(whole)["params"]
    for name in before:
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before[name], after[name])
        assert max(jax.tree.leaves(moved)) > 1e-4, name


def test_another_config_is_refused_in_the_same_workdir(config, whole):
    other = config.copy_and_resolve_references()
    other.optimizer.learning_rate = 3e-4
    with pytest.raises(InputError, match=r"optimizer.learning_rate: 0.001 there, 0.0003 here"):
        train.train(other, whole)


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
        ({"log_every": 0}, "log_every 0: expected at least 1"),
        ({"parallel": "zmap"}, "parallel 'zmap'"),
        ({"batch_size": 3}, "batch_size 3 does not divide"),
        ({"init": {"encoders": "nowhere.pth"}}, r"nowhere\.pth"),
        ({"model": {"aggregator": "nothing"}}, "aggregator 'nothing'"),
        ({"optimizer": {"schedule": "steps"}}, "schedule 'steps'"),
    ],
)
def test_a_bad_setting_is_refused_before_the_workdir_is_touched(config, tmp_path, change, says):
    other = config.copy_and_resolve_references()
    other.update(change)
    with pytest.raises(InputError, match=says):
        train.train(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_how_often_to_log_may_change_when_a_run_goes_on(config, whole, capsys):
    other = config.copy_and_resolve_references()
    other.log_every = 1
    train.train(other, whole)
    assert "has all 4 steps already" in capsys.readouterr().out


def test_a_workdir_that_cannot_be_written_is_refused(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*run"):
        train.train(config, tmp_path / "file" / "run")


def test_a_missing_checkpoint_is_told_with_those_there_are(whole, tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint of step 3; it has \[2, 4\]"):
        checkpoint.restore_model(whole, step=3)
    with pytest.raises(InputError, match="expected a training run's folder"):
        checkpoint.restore_model(tmp_path)


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
