"""That what is computed again gives the same training is `test_invariance.py`'s to show."""

import jax
import jax.numpy as jnp
import pytest

from qmra_jax import build_model
from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes
from tests.support.tiny import TINY

INPUTS = [jnp.zeros(shape) for shape in ((1, 16, 16, 3), (1, 2, 16, 16, 3), (1, 2, 16, 16, 1))]
BLOCKS = 3 * 6  # ResNet-18's, of the query in f_q, of the memory in f_m, of the query in f_m


@pytest.mark.parametrize(
    ("remat", "expected"), [("none", 0), ("encoders", BLOCKS), ("all", BLOCKS + 3)]
)
def test_what_is_computed_again_is_what_the_setting_says(tiny_model, remat, expected):
    model = build_model({**TINY, "remat": remat})
    shapes = variable_shapes(model)
    assert shapes == variable_shapes(tiny_model)  # nor do parameters' names change
    traced = jax.make_jaxpr(lambda variables: model.apply(variables, *INPUTS))(shapes)
    names = [equation.primitive.name for equation in traced.jaxpr.eqns]
    assert sum(name in ("checkpoint", "remat2") for name in names) == expected


@pytest.mark.parametrize("name", ["remat", "batch_norm"])
def test_a_value_that_is_none_is_refused(name):
    with pytest.raises(InputError, match=f"model {name} 'some': expected one of"):
        build_model({**TINY, name: "some"})


def test_the_axis_of_statistics_is_no_setting():
    with pytest.raises(InputError, match="model config has no stats_axis"):
        build_model({**TINY, "stats_axis": "data"})
