"""The cost of a network: parameters, and floating-point operations per frame."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from qmra_jax.inference import frame_step
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.model import QMRA


@functools.cache
def parameters(module: QMRA) -> int:
    """The number of trained parameters, without BatchNorm's statistics."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variable_shapes(module)["params"]))


@functools.cache
def frame_flops(module: QMRA, height: int, width: int, memory: int) -> int:
    """FLOP of one frame with one object: 2 per multiply-add of convolutions and matrix products.

    Convolutions count by definition, whatever algorithm computes them; sums, softmaxes, selections
    and resizing are left out. Nothing is compiled or computed.

    Args:
      module: the network.
      height: of the network's input.
      width: of the network's input.
      memory: number of memory frames.
    """
    shape = jax.ShapeDtypeStruct
    # The fused kernel does the same work, but is not available on every machine.
    module = module.clone(reader=module.reader.replace("fused=True", "fused=False"))
    variables = variable_shapes(module)
    size = (height, width)
    image, box_map = shape((*size, 3), jnp.uint8), shape((1, *size), jnp.float32)
    _, entry = jax.eval_shape(
        lambda *x: frame_step.enter(module, *x, size), variables, image, box_map
    )
    bank = jax.tree.map(lambda x: shape((1, memory, *x.shape[2:]), x.dtype), entry)
    valid, slots = shape((1, memory), jnp.bool_), shape((2,), jnp.int32)
    traced = jax.make_jaxpr(lambda *x: frame_step.track(module, *x, size))(
        variables, bank, valid, slots, image
    )
    return count(traced.jaxpr)


def count(jaxpr: Any) -> int:
    """FLOP of a program's convolutions and matrix products.

    The most expensive branch of a choice counts, a `scan` as often as it runs, a `while` once.
    """
    return sum(_count(equation) for equation in jaxpr.eqns)


def _count(equation: Any) -> int:
    kind, parameters = equation.primitive.name, equation.params
    if kind == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    if kind == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_axis = parameters["dimension_numbers"].rhs_spec[0]
        products = math.prod(kernel) // kernel[out_axis]
        return 2 * products * math.prod(equation.outvars[0].aval.shape)
    inner = [
        getattr(value, "jaxpr", value)
        for values in parameters.values()
        for value in (values if isinstance(values, tuple | list) else (values,))
        if hasattr(value, "jaxpr") or hasattr(value, "eqns")
    ]
    if kind == "cond":
        return max(map(count, inner))
    return parameters.get("length", 1) * sum(map(count, inner))
