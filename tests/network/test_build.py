import importlib
from pathlib import Path

import jax
import pytest

from configs import stm
from configs.ablations import ABLATIONS
from qmra_jax import build_model
from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes
from qmra_jax.weights.stm import STM_MODEL
from tests.support.tiny import TINY

CONFIGS = Path(__file__).parents[2] / "configs"
# Config -> number of parameters of its network; every config must be listed.
PARAMETERS = {
    "common": 53_235_782,
    "pretrain_static": 53_235_782,
    "youtube_vos": 53_235_782,
    "stm": 38_922_434,
    "small": 7_867_430,
    "small_video": 7_867_430,
    "small_large": 7_867_430,
    "small_128": 7_867_430,
    "small_192": 7_867_430,
    "small_320": 7_867_430,
    "base": 9_738_310,
    "base_large": 9_738_310,
    "smoke": 6_277_750,
    "ablations": 7_867_430,
}


def test_every_config_is_listed():
    named = {path.stem for path in CONFIGS.glob("*.py") if "\ndef get_config" in path.read_text()}
    assert named == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    shapes = variable_shapes(build_model(config.model))
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"bakcbone": "resnet18"}, "bakcbone.*backbone"),
        ({"stats_axis": "data"}, "stats_axis"),
        ({"backbone": "resnet34"}, "backbone 'resnet34'.*resnet18, resnet50"),
        ({"key_dim": -3}, "key_dim -3"),
        ({"dtype": "float99"}, "dtype 'float99'.*float32"),
        ({"remat": "some"}, "remat 'some'.*none, encoders, all"),
        ({"batch_norm": "some"}, "batch_norm 'some'.*frozen, sync"),
        ({"stages": 3}, "stages 3.*1, 2"),
        ({"stages": True}, "stages True.*1, 2"),
        ({"siamese": 1}, "siamese 1.*True, False"),
        ({"align": "boxes"}, "align 'boxes'.*box, mask"),
        ({"kv_kernel": 2}, "kv_kernel 2.*1, 3"),
        ({"reader": "knn"}, "reader 'knn'.*cosine, dot, kernel, l2, none, topk"),
        ({"reader": "topk:k=many"}, "'k=many'.*integer"),
        ({"reader": "dot:valid=1"}, "'valid=1'.*'dot'.* fused, rows, scale$"),
        ({"aggregator": "cba"}, "aggregator 'cba'.*bca"),
        ({"prior": "hard"}, "prior 'hard'.*binary, odds, rectified, soft"),
        ({"refine": "mrc"}, "refine 'mrc'.*crm"),
        ({"refine": "none:dtype=1"}, "'dtype=1'.*'none'"),
        ({"features": "dino"}, "features 'dino'.*dinov2_vits14"),
        ({"stages": 1, "siamese": False}, "siamese=False.*stages=1"),
        ({"stages": 1, "refine": "crm_no_coord"}, "refine=crm_no_coord.*stages=1"),
    ],
)
def test_invalid_model_configs_are_rejected(config, named):
    with pytest.raises(InputError, match=named):
        build_model({**TINY, **config})


def test_every_definition_of_stm_is_the_same_network():
    assert stm.MODEL == STM_MODEL
    assert ABLATIONS["stm"] == {f"model.{name}": value for name, value in STM_MODEL.items()}
    for which in ("", "pretrain", "small"):
        model = stm.get_config(which).model
        assert {name: model[name] for name in STM_MODEL} == STM_MODEL
    with pytest.raises(ValueError, match="large"):
        stm.get_config("large")
