"""The shipped weights are what their model cards say."""

import json
import os
import sys
from pathlib import Path

import pytest

import evaluate
import qmra_jax
from configs import base, base_large, small, small_large, small_video
from qmra_jax.cli.options import DEFAULT_WEIGHTS

FOLDER = Path(__file__).parents[1] / "weights"
WEIGHTS = FOLDER / "qmra-small.safetensors"


@pytest.mark.parametrize("name", ["qmra-small", "qmra-small-pretrained"])
def test_small_weights_are_of_the_small_model_and_below_20_mb(name):
    module, _, _ = qmra_jax.load(FOLDER / f"{name}.safetensors")
    assert module == qmra_jax.build_model(small.get_config().model)
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 20e6
    assert (FOLDER / f"{name}.md").is_file()


def test_the_default_weights_are_of_the_base_model_and_below_60_mb():
    module, variables, config = qmra_jax.load(DEFAULT_WEIGHTS)
    trained_in = base.get_config().model
    assert config.to_dict() | {"dtype": trained_in.dtype} == trained_in.to_dict()
    assert module.dtype == "float32"
    assert "frozen" in variables
    assert base_large.get_config().model == trained_in
    assert DEFAULT_WEIGHTS.stat().st_size < 60e6
    assert DEFAULT_WEIGHTS.with_suffix(".md").is_file()


def test_video_training_starts_from_the_pretrained_weights():
    config = small_video.get_config()
    assert FOLDER.parent / config.init_from == FOLDER / "qmra-small-pretrained.safetensors"
    assert config.model == small.get_config().model == small_large.get_config().model


@pytest.mark.slow
def test_small_weights_segment_an_unseen_video(tmp_path, monkeypatch):
    data = os.environ.get("QMRA_DATA", "")
    if not (Path(data) / "davis2016").is_dir():
        pytest.skip("needs DAVIS 2016 at $QMRA_DATA/davis2016")
    arguments = ["--dataset=davis2016", "--split=val", "--sequences", "bear"]
    paths = [f"--weights={WEIGHTS}", f"--data_dir={data}/davis2016", f"--output={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *paths, *arguments])
    evaluate.main()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["J"]["mean"] > 0.9
