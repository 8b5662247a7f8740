"""The weights that come with the project do what their model card says."""

import json
import os
import sys
from pathlib import Path

import pytest

import evaluate
import qmra_jax
from configs import small

WEIGHTS = Path(__file__).parents[1] / "weights" / "qmra-small.safetensors"


def test_they_are_the_small_model_in_less_than_20_mb():
    _, _, config = qmra_jax.load(WEIGHTS)
    model = small.get_config().model.to_dict()
    assert config.to_dict().items() <= model.items()
    # Younger settings of the model, at what they were when there was no choice.
    younger = {name: model[name] for name in model.keys() - config.to_dict().keys()}
    assert younger == {
        "stages": 2,
        "align": "box",
        "siamese": True,
        "kv_kernel": 1,
        "batch_norm": "frozen",
        "remat": "none",
    }
    assert WEIGHTS.stat().st_size < 20e6


@pytest.mark.slow
def test_they_follow_a_bear_that_they_were_not_trained_on(tmp_path, monkeypatch):
    data = os.environ.get("QMRA_DATA", "")
    if not (Path(data) / "davis2016").is_dir():
        pytest.skip("needs DAVIS 2016 at $QMRA_DATA/davis2016")
    arguments = ["--dataset=davis2016", "--split=val", "--sequences", "bear", "--short_side=240"]
    paths = [f"--weights={WEIGHTS}", f"--data_dir={data}/davis2016", f"--output={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *paths, *arguments])
    evaluate.main()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["J"]["mean"] > 0.8
