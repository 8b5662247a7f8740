"""A run starts from weights with the frozen features that its config names."""

import pytest
from etils import epath

import qmra_jax
from configs import common
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import initialization
from qmra_jax.weights import frozen_features
from tests.support.tiny import TINY, assert_same_tree, random_variables
from tests.support.toy_dinov2 import FROZEN, LIKE, random_state


def test_init_from_an_int8_file_takes_the_features_that_it_rounded(tmp_path):
    config = common.get_config()
    config.model.update(TINY | {"features": "dinov2_vits14:width=24,depth=2,heads=2,grid=5"})
    model = build_model(config.model)
    shapes = variable_shapes(model)
    trained = random_variables({name: shapes[name] for name in ("params", "batch_stats")})
    file = tmp_path / "int8.safetensors"
    qmra_jax.save(file, trained | {"frozen": FROZEN}, config.model, frozen_dtype="int8")
    config.init_from = str(file)

    def start(frozen):
        return initialization.check(model, config, epath.Path(tmp_path / "run"), frozen)

    assert_same_tree(start(FROZEN).taken, trained | {"frozen": FROZEN})
    rounded = frozen_features.load(file, LIKE)
    assert_same_tree(start(rounded).taken["frozen"], rounded)
    with pytest.raises(InputError, match="features"):
        start(frozen_features.from_names(random_state(seed=1), LIKE))
