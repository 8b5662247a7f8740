"""Every config has the settings of common.py, builds its network, and trains."""

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from flax import traverse_util

import train
from configs import common
from qmra_jax import build_model
from qmra_jax.network.build import variable_shapes
from qmra_jax.training import checkpoint, config_check
from tests.support.tiny import disc, metric_lines

COMMON = common.get_config()
FOLDER = Path(common.__file__).parent
NAMES = sorted({p.stem for p in FOLDER.glob("*.py")} - {"__init__", "common", "selection"})


def load(name, *arguments):
    return importlib.import_module(f"configs.{name}").get_config(*arguments)


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("static")
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / kind).mkdir()
        for k in range(2):
            mask = disc((48, 48), (20 + k, 24), 12).astype(np.uint8) * 255
            cv2.imwrite(str(root / kind / f"{k}.{suffix}"), mask)
    return str(root)


@pytest.mark.parametrize("name", NAMES)
def test_config_has_the_settings_of_common_is_valid_and_documents_its_command(name):
    config = load(name)
    settings, expected = (traverse_util.flatten_dict(c.to_dict()) for c in (config, COMMON))
    assert settings.keys() == expected.keys()
    config.init.features = "" if config.model.features == "none" else "a file"  # of the user
    config.init.encoders = ""
    config_check.check(config)
    assert variable_shapes(build_model(config.model))
    doc = importlib.import_module(f"configs.{name}").__doc__
    assert f"python train.py --config=configs/{name}.py" in doc


@pytest.mark.parametrize("name", NAMES)
def test_config_trains(name, static_folder, tiny_davis, tmp_path, miniature, compile_once):
    """Two steps of its recipe, with a miniature network and tiny data."""
    config = load(name)
    config.init_from = config.init.encoders = ""
    config.model.features, config.init.key_projection = "none", "random"  # need the real network
    config.data.held_out = ()
    config.data.update(root=str(tiny_davis), crop=32, workers=1)
    config.data.static = tuple(static_folder for _ in config.data.static[:1])
    config.data.videos = tuple(".:train" for _ in config.data.videos[:1])
    config.update(batch_size=2, steps=2, cpu_devices=0, log_every=1, picture_every=9)
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 1)
    config.eval.every = 0
    assert train.train(config, tmp_path / "run") == 0
    assert [np.isfinite(line["loss"]) for line in metric_lines(tmp_path / "run")] == [True, True]
    assert checkpoint.checkpoint_steps(tmp_path / "run") == [2]


def test_pretraining_takes_coco_as_its_argument():
    plain, coco = load("pretrain_static"), load("pretrain_static", "coco")
    assert set(coco.data.static) - set(plain.data.static) == {"coco_masks:train"}
    with pytest.raises(ValueError, match="'lvis'"):
        load("pretrain_static", "lvis")


def test_papers_configs_have_the_papers_values():
    for name in ("pretrain_static", "youtube_vos"):
        config = load(name)
        assert (config.model.backbone, config.data.crop, config.batch_size) == ("resnet50", 384, 16)
        assert (config.optimizer.name, config.optimizer.schedule) == ("adam", "constant")
        assert config.optimizer.learning_rate == 1e-5
        assert config.optimizer.clip_norm == config.optimizer.weight_decay == 0
    assert load("youtube_vos").init_from == "runs/pretrain"
