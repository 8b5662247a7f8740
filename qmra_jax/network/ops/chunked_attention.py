"""Softmax attention over all memory places, for any similarity: at once or in parts.

Both give the same result to rounding. In parts, by an online softmax (Milakov & Gimelshein 2018),
temporaries are O(H W x part), not O(H W x t H W).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from qmra_jax.errors import InputError

PLAIN_BYTES = 128 * 2**20  # of similarities; larger ones are computed in parts

# (queries [b, q, c], keys [b, m, c]) -> logits float32 [b, q, m]
Similarity = Callable[[jax.Array, jax.Array], jax.Array]


def softmax_read(
    similarity: Similarity,
    query_key,
    memory_key,
    memory_value,
    valid=None,
    rows: int | None = None,
):
    """Gathers values by `softmax(similarity)` over the valid memory places.

    Args:
      similarity: of queries and keys; must treat each memory place independently.
      query_key: `[b or 1, H, W, c_k]`.
      memory_key: `[b, t, H, W, c_k]`.
      memory_value: `[b, t, H, W, c_v]`.
      valid: bool `[b, t]`, which memory frames to read; None for all.
      rows: rows of memory places (W each) to compare at a time, a divisor of t H; 0 for all at
        once; None for the fastest: on a CPU with `valid`, as in inference, one object and frame at
        a time, else as many as keep the similarities below `PLAIN_BYTES`.

    Returns:
      `[b, H, W, c_v]`, in the values' dtype; the softmax is taken in float32.

    Raises:
      InputError: if `rows` does not divide t H.
    """
    height, width, _ = query_key.shape[1:]
    b, t, memory_height, memory_width = memory_key.shape[:4]
    queries = rearrange(query_key, "b h w c -> b (h w) c")
    keys = rearrange(memory_key, "b t h w c -> b (t h) w c")
    values = rearrange(memory_value, "b t h w c -> b (t h) w c")
    if valid is not None:
        valid = repeat(valid, "b t -> b (t h)", h=memory_height)
    row_bytes = 4 * b * height * width * memory_width
    fitting = largest_divisor(t * memory_height, PLAIN_BYTES // row_bytes)
    if rows and (rows < 0 or t * memory_height % rows):
        raise InputError(
            f"rows {rows}: expected a divisor of {t * memory_height} ({t} memory frames of"
            f" {memory_height} rows), or 0 for all at once"
        )
    at_a_time = fitting if rows is None else rows
    read = functools.partial(_read, similarity)
    if at_a_time not in (0, t * memory_height):
        read = functools.partial(_read_in_parts, similarity, rows=at_a_time)
    if rows is None and valid is not None:
        by_frame = functools.partial(_read_by_object, similarity, rows=memory_height)
        read_out = jax.lax.platform_dependent(
            queries, keys, values, valid, cpu=by_frame, default=read
        )
    else:
        read_out = read(queries, keys, values, valid)
    return rearrange(read_out, "b (h w) c -> b h w c", h=height, w=width)


def compare(similarity: Similarity, queries, keys, valid):
    """Logits float32 `[b, q, m]`, minus infinity at invalid places.

    `keys` `[b, r, W, c]` and `valid` bool `[b, r]` are given by rows of memory places.
    """
    logits = similarity(queries, rearrange(keys, "b r w c -> b (r w) c"))
    if valid is None:
        return logits
    places = repeat(valid, "b r -> b 1 (r w)", w=keys.shape[2])
    return jnp.where(places, logits, -jnp.inf)


def largest_divisor(n: int, most: int) -> int:
    """The largest divisor of n up to `most`, at least 1."""
    return next(d for d in range(max(min(n, most), 1), 0, -1) if n % d == 0)


def _read(similarity: Similarity, queries, keys, values, valid):
    """All memory places at once: `[b, q, c_v]`."""
    weights = jax.nn.softmax(compare(similarity, queries, keys, valid), axis=-1)
    values = rearrange(values, "b r w c -> b (r w) c")
    return jnp.einsum("bqm,bmc->bqc", weights.astype(values.dtype), values)


def _read_in_parts(
    similarity: Similarity, queries, keys, values, valid, rows: int, whole_parts: bool = False
):
    """`rows` rows of memory places at a time, by an online softmax.

    The carry, in float32: the largest similarity so far, the sum of exponentials relative to it,
    and their weighted sum of values. Parts without valid places are skipped; with `whole_parts`,
    all places of the other parts must be valid.
    """

    def parts(x):
        return rearrange(x, "b (n r) ... -> n b r ...", r=rows)

    def add(carry, part):
        largest, total, read_out = carry
        keys, values, valid = part
        logits = compare(similarity, queries, keys, None if whole_parts else valid)
        new = jnp.maximum(largest, logits.max(axis=-1))
        finite = jnp.where(jnp.isfinite(new), new, 0.0)  # no valid place so far for this object
        weights = jnp.exp(logits - finite[..., None])
        shrink = jnp.exp(largest - finite)
        values = rearrange(values, "b r w c -> b (r w) c")
        more = jnp.einsum(
            "bqm,bmc->bqc",
            weights.astype(values.dtype),
            values,
            preferred_element_type=jnp.float32,
        )
        total = shrink * total + weights.sum(axis=-1)
        return new, total, shrink[..., None] * read_out + more

    def step(carry, part):
        if part[2] is None:
            return add(carry, part), None
        return jax.lax.cond(part[2].any(), add, lambda carry, part: carry, carry, part), None

    shape = (keys.shape[0], queries.shape[1])
    start = (
        jnp.full(shape, -jnp.inf),
        jnp.zeros(shape),
        jnp.zeros((*shape, values.shape[-1])),
    )
    stacked = (parts(keys), parts(values), None if valid is None else parts(valid))
    (_, total, read_out), _ = jax.lax.scan(step, start, stacked)
    return (read_out / total[..., None]).astype(values.dtype)


def _read_by_object(similarity: Similarity, queries, keys, values, valid, rows: int):
    """`_read_in_parts`, one object at a time.

    The similarities of one object and one frame fit into a CPU's cache, and invalid frames cost
    nothing.
    """
    queries = jnp.broadcast_to(queries, (keys.shape[0], *queries.shape[1:]))

    def read(one):
        queries, keys, values, valid = (x[None] for x in one)
        return _read_in_parts(similarity, queries, keys, values, valid, rows, whole_parts=True)[0]

    return jax.lax.map(read, (queries, keys, values, valid))
