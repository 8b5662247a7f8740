"""The memory read as one kernel (Pallas): similarities never leave the chip.

An online softmax over blocks of memory places, as in flash attention (Dao 2023), with values wider
than keys and a mask of valid places; blocks without any are skipped. On a GPU (Triton), a program
loops over the memory for its block of the query; on a TPU (Mosaic), the grid's last axis iterates
over the memory and the carry stays in scratch memory.

It is opt-in (`dot:fused=True`), as it has not been run or timed on either yet. It lowers with JAX
0.10 and 0.12; the latter announces the removal of Pallas' Triton backend. The gradient is that of
the unfused form.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu

from qmra_jax.errors import InputError

_LOW = -1e30  # similarity of invalid places: exp(_LOW - x) is 0 without infinities
# (query, memory) places per block. On a GPU, a block of float32 values 512 wide takes 64 KB of a
# multiprocessor's shared memory (160 KB or more).
_BLOCKS = {"gpu": (64, 32), "tpu": (256, 512)}


def fused_read(query_key, memory_key, memory_value, valid, unfused: Callable, fused: bool | str):
    """Softmax of queries times keys over the valid memory places, times values.

    Args:
      query_key: `[b or 1, H, W, c_k]`, already scaled; float32, bfloat16 or float16.
      memory_key: `[b, t, H, W, c_k]` of the same dtype.
      memory_value: `[b, t, H, W, c_v]` of the same dtype.
      valid: bool `[b, t]`, the frames to read, at least one for each b; None for all.
      unfused: the unfused read, a function of the four arrays, for the gradient.
      fused: True, or "interpret" to interpret the kernel on any device.

    Returns:
      `[b, H, W, c_v]`, in the values' dtype; the softmax is taken in float32.

    Raises:
      InputError: if `fused` is neither, or True on a CPU.
    """
    if fused not in (True, "interpret"):
        raise InputError(f"reader dot:fused={fused}: expected True, False or interpret")
    interpret = fused == "interpret"
    platform = "gpu" if interpret else _platform()
    return read(query_key, memory_key, memory_value, valid, unfused, platform, interpret)


def _platform() -> str:
    """The kernel's platform: "gpu" or "tpu"."""
    platform = jax.default_backend()
    if platform not in _BLOCKS:
        raise InputError(
            f"reader dot:fused=True on a {platform}: expected a GPU or TPU; use dot, or"
            " dot:fused=interpret to interpret the kernel, slowly"
        )
    return platform


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def read(query_key, memory_key, memory_value, valid, unfused: Callable, platform, interpret):
    """`fused_read` with the kernel of `platform`, "gpu" or "tpu"; `interpret` runs it on any."""
    b, t, _, _, c_v = memory_value.shape
    height, width = query_key.shape[1:3]
    q_block, m_block = _BLOCKS[platform]
    counts = jnp.ones((b, t)) if valid is None else valid.astype(jnp.float32)
    places = memory_key.shape[2] * memory_key.shape[3]
    counts = _pad(repeat(counts, "b t -> b 1 (t places)", places=places), 2, m_block)
    # Triton needs powers of two of at least 16; zeros do not change the products.
    query_key, memory_key, memory_value = (
        _pad(x, -1, max(16, pl.next_power_of_2(x.shape[-1])))
        for x in (query_key, memory_key, memory_value)
    )
    queries = _pad(rearrange(query_key, "b h w c -> b (h w) c"), 1, q_block)
    keys, values = (
        _pad(rearrange(x, "b t h w c -> b (t h w) c"), 1, m_block)
        for x in (memory_key, memory_value)
    )
    query_stride = 1 if queries.shape[0] == b else 0  # one query for all objects
    call = _on_gpu if platform == "gpu" else _on_tpu
    out = call(queries, keys, values, counts, query_stride, q_block, m_block, interpret)
    return rearrange(out[:, : height * width, :c_v], "b (h w) c -> b h w c", h=height)


def _forward(query_key, memory_key, memory_value, valid, *how):
    arrays = query_key, memory_key, memory_value, valid
    return read(*arrays, *how), arrays


def _backward(unfused, platform, interpret, arrays, gradient):
    *arrays, valid = arrays
    _, pull = jax.vjp(lambda *arrays: unfused(*arrays, valid), *arrays)
    return *pull(gradient), None


read.defvjp(_forward, _backward)


def _pad(x, axis: int, multiple: int):
    """Zero-padded at the end of `axis` to a multiple of `multiple`."""
    more = [(0, 0)] * x.ndim
    more[axis] = (0, -x.shape[axis] % multiple)
    return jnp.pad(x, more)


def _add(query, keys, values, counts, carry):
    """Adds a block of memory places to an online softmax.

    The carry, in float32: the largest similarity so far and the sum of exponentials relative to it
    `[q, 1]`, and their weighted sum of values `[q, c_v]`.
    """
    largest, total, read_out = carry
    similarity = jnp.dot(query, keys.T, preferred_element_type=jnp.float32)
    similarity = jnp.where(counts[None] > 0, similarity, _LOW)
    new = jnp.maximum(largest, similarity.max(axis=1, keepdims=True))
    weights, shrink = jnp.exp(similarity - new), jnp.exp(largest - new)
    more = jnp.dot(weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    return new, shrink * total + weights.sum(axis=1, keepdims=True), shrink * read_out + more


def _on_gpu(queries, keys, values, counts, query_stride, q_block, m_block, interpret):
    """The read-out `[b, q, c_v]`; all sizes are multiples of the blocks."""
    (b, places, c_v), c_k = values.shape, keys.shape[-1]
    grid = b, queries.shape[1] // q_block

    def kernel(query_ref, key_ref, value_ref, counts_ref, out_ref):
        query = query_ref[...]

        def step(i, carry):
            part = pl.ds(i * m_block, m_block)
            counts = counts_ref[part]
            return jax.lax.cond(
                jnp.max(counts) > 0,
                lambda: _add(query, key_ref[part, :], value_ref[part, :], counts, carry),
                lambda: carry,
            )

        start: Any = tuple(jnp.full((q_block, c), x) for c, x in ((1, _LOW), (1, 0.0), (c_v, 0.0)))
        _, total, read_out = jax.lax.fori_loop(0, places // m_block, step, start)
        out_ref[...] = (read_out / total).astype(out_ref.dtype)

    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[
            pl.BlockSpec((None, q_block, c_k), lambda n, i: (n * query_stride, i, 0)),
            pl.BlockSpec((None, places, c_k), lambda n, i: (n, 0, 0)),
            pl.BlockSpec((None, places, c_v), lambda n, i: (n, 0, 0)),
            pl.BlockSpec((None, None, places), lambda n, i: (n, 0, 0)),
        ],
        out_specs=pl.BlockSpec((None, q_block, c_v), lambda n, i: (n, i, 0)),
        out_shape=jax.ShapeDtypeStruct((b, queries.shape[1], c_v), values.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=8 if c_v > 128 else 4, num_stages=1),
        interpret=interpret,
    )(queries, keys, values, counts)


def _on_tpu(queries, keys, values, counts, query_stride, q_block, m_block, interpret):
    """The read-out `[b, q, c_v]`; all sizes are multiples of the blocks."""
    (b, places, c_v), c_k = values.shape, keys.shape[-1]
    grid = b, queries.shape[1] // q_block, places // m_block

    def kernel(query_ref, key_ref, value_ref, counts_ref, out_ref, *carry_refs):
        @pl.when(pl.program_id(2) == 0)
        def _():
            for ref, x in zip(carry_refs, (_LOW, 0.0, 0.0), strict=True):
                ref[...] = jnp.full(ref.shape, x)

        @pl.when(jnp.max(counts_ref[...]) > 0)
        def _():
            carry = tuple(ref[...] for ref in carry_refs)
            added = _add(query_ref[...], key_ref[...], value_ref[...], counts_ref[0], carry)
            for ref, x in zip(carry_refs, added, strict=True):
                ref[...] = x

        @pl.when(pl.program_id(2) == grid[2] - 1)
        def _():
            out_ref[...] = (carry_refs[2][...] / carry_refs[1][...]).astype(out_ref.dtype)

    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[
            pl.BlockSpec((None, q_block, c_k), lambda n, i, j: (n * query_stride, i, 0)),
            pl.BlockSpec((None, m_block, c_k), lambda n, i, j: (n, j, 0)),
            pl.BlockSpec((None, m_block, c_v), lambda n, i, j: (n, j, 0)),
            pl.BlockSpec((None, 1, m_block), lambda n, i, j: (n, 0, j)),
        ],
        out_specs=pl.BlockSpec((None, q_block, c_v), lambda n, i, j: (n, i, 0)),
        out_shape=jax.ShapeDtypeStruct((b, queries.shape[1], c_v), values.dtype),
        scratch_shapes=[pltpu.VMEM((q_block, c), jnp.float32) for c in (1, 1, c_v)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
    )(queries, keys, values, counts)
