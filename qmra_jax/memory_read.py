"""Memory Read (Eq. 6): every place of the query gathers the memory's values by similarity of keys.

A reader is a pure function

    reader(query_key, memory_key, memory_value, valid=None, *, options) -> read-out

    query_key     [b, H, W, c_k]
    memory_key    [b, t, H, W, c_k]
    memory_value  [b, t, H, W, c_v]
    valid         bool [b, t]: which memory frames count; None for all
    read-out      [b, H, W, c_v]

with an entry in `READERS`, which makes it a value of `config.model.reader`. The query's b may be 1
beside a memory of several objects.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from qmra_jax.errors import InputError

PLAIN_BYTES = 128 * 2**20  # of similarities: beyond this they are made a part at a time


def dot(
    query_key,
    memory_key,
    memory_value,
    valid=None,
    *,
    scale: bool = True,
    rows: int | None = None,
    fused: bool | str = False,
):
    """Eq. 6: softmax over all memory places of `K_q K_m^T / sqrt(c_k)`, times `V_m`.

    Args:
      query_key: see the module.
      memory_key: see the module.
      memory_value: see the module.
      valid: see the module.
      scale: divide by sqrt(c_k). The paper's equation shows no scale; STM, its source, has it.
      rows: rows of memory places (W each) that are compared at a time, a divisor of t H; 0 for all
        at once; None for what is quickest: on a CPU with `valid`, as in inference, an object and a
        frame at a time, else as many as keep the similarities below `PLAIN_BYTES`. The result is
        the same to rounding.
      fused: take the kernel of `fused_read`, on a GPU or TPU; "interpret": on any device, slowly.
        Its gradient is that of the form which is taken otherwise.

    Returns:
      `[b, H, W, c_v]`, in the values' dtype; the softmax is taken in float32.

    Raises:
      InputError: if `rows` does not divide t H; or `fused` is set on a CPU, or is no such value.
    """
    if fused not in (True, False, "interpret"):
        raise InputError(f"reader dot:fused={fused}: expected True, False or interpret")
    height, width, c_k = query_key.shape[1:]
    b, t, memory_height, memory_width = memory_key.shape[:4]
    queries = rearrange(query_key, "b h w c -> b (h w) c")
    if scale:
        queries = queries / c_k**0.5  # the smaller side, and in bfloat16 an exact power of two
    keys = rearrange(memory_key, "b t h w c -> b (t h) w c")
    values = rearrange(memory_value, "b t h w c -> b (t h) w c")
    if valid is not None:
        valid = repeat(valid, "b t -> b (t h)", h=memory_height)
    row_bytes = 4 * b * height * width * memory_width
    fitting = _largest_divisor(t * memory_height, max(PLAIN_BYTES // row_bytes, 1))
    if rows and (rows < 0 or t * memory_height % rows):
        raise InputError(
            f"rows {rows}: expected a divisor of {t * memory_height}, the rows of {t} memory"
            f" frames of {memory_height} each; or 0 for all at once"
        )
    at_a_time = fitting if rows is None else rows
    read: Callable = _read
    if at_a_time not in (0, t * memory_height):
        read = functools.partial(_read_in_parts, rows=at_a_time)
    if fused:
        from qmra_jax import fused_read  # Pallas takes half a second to import

        interpret = fused == "interpret"
        platform = "gpu" if interpret else fused_read.check_platform()
        read_out = fused_read.read(queries, keys, values, valid, read, platform, interpret)
    elif rows is None and valid is not None:
        by_frame = functools.partial(_read_by_object, rows=memory_height)
        read_out = jax.lax.platform_dependent(
            queries, keys, values, valid, cpu=by_frame, default=read
        )
    else:
        read_out = read(queries, keys, values, valid)
    return rearrange(read_out, "b (h w) c -> b h w c", h=height, w=width)


def _similarity(queries, keys, valid):
    """float32 `[b, q, m]`, minus infinity at places that do not count."""
    keys = rearrange(keys, "b r w c -> b (r w) c")
    similarity = jnp.einsum("bqc,bmc->bqm", queries, keys, preferred_element_type=jnp.float32)
    if valid is not None:
        places = repeat(valid, "b r -> b 1 (r w)", w=keys.shape[1] // valid.shape[1])
        similarity = jnp.where(places, similarity, -jnp.inf)
    return similarity


def _read(queries, keys, values, valid):
    """All memory places at once: `[b, q, c_v]`."""
    weights = jax.nn.softmax(_similarity(queries, keys, valid), axis=-1)
    values = rearrange(values, "b r w c -> b (r w) c")
    return jnp.einsum("bqm,bmc->bqc", weights.astype(values.dtype), values)


def _read_in_parts(queries, keys, values, valid, rows: int, whole_parts: bool = False):
    """`rows` rows of memory places at a time, by an online softmax (Milakov & Gimelshein 2018).

    Carried from part to part, in float32: the largest similarity so far, the sum of exponentials
    relative to it, and their weighted sum of values. Parts where nothing counts are passed over;
    `whole_parts` promises that of the others all counts.
    """

    def parts(x):
        return rearrange(x, "b (n r) ... -> n b r ...", r=rows)

    def add(carry, part):
        largest, total, read_out = carry
        keys, values, valid = part
        similarity = _similarity(queries, keys, None if whole_parts else valid)
        new = jnp.maximum(largest, similarity.max(axis=-1))
        finite = jnp.where(jnp.isfinite(new), new, 0.0)  # nothing has counted yet for this object
        weights = jnp.exp(similarity - finite[..., None])
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


def _read_by_object(queries, keys, values, valid, rows: int):
    """`_read_in_parts`, one object after another.

    The similarities of one object with one frame stay in a CPU's cache from product to product, and
    a frame costs nothing where it does not count.
    """
    queries = jnp.broadcast_to(queries, (keys.shape[0], *queries.shape[1:]))

    def read(one):
        queries, keys, values, valid = (x[None] for x in one)
        return _read_in_parts(queries, keys, values, valid, rows, whole_parts=True)[0]

    return jax.lax.map(read, (queries, keys, values, valid))


def _largest_divisor(n: int, most: int) -> int:
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)


READERS = {"dot": dot}
