"""Parameters and FLOP equal those that PyTorch counts on the twin."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import network_cost


def test_products_count_by_definition_and_loops_as_often_as_they_run():
    def program(x, kernel):
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        matrix = y[0, 0] @ y[0, 0].T
        return jax.lax.scan(lambda c, _: (c @ c, None), matrix, None, length=3)

    shape = jax.ShapeDtypeStruct
    x, kernel = shape((1, 8, 8, 3), jnp.float32), shape((3, 3, 3, 5), jnp.float32)
    found = network_cost.count(jax.make_jaxpr(program)(x, kernel).jaxpr)
    assert found == 2 * (3 * 3 * 3 * 5 * 4 * 4) + 2 * (4 * 5 * 4) + 3 * 2 * (4 * 4 * 4)


def test_the_most_expensive_branch_counts():
    def program(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x, x)

    x = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    assert network_cost.count(jax.make_jaxpr(program)(x).jaxpr) == 2 * 4**3


def test_a_frame_costs_what_pytorch_counts():
    pytest.importorskip("torch")
    from benchmarks.clip import Clip
    from benchmarks.torch_inference import count_flops
    from configs import small
    from qmra_jax import build_model

    module = build_model(small.get_config().model)
    assert network_cost.parameters(module) == 7_867_430
    expected = count_flops(Clip(config="small", height=64, width=90, memory=3))
    assert network_cost.frame_flops(module, 64, 90, 3) == expected
