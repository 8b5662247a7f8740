"""Memory Read (Eq. 6): every place of the query gathers the memory's values by similarity of keys.

A reader is a pure function

    reader(query_key, memory_key, memory_value, valid=None, *, options) -> read-out

    query_key     [b, H, W, c_k]
    memory_key    [b, t, H, W, c_k]
    memory_value  [b, t, H, W, c_v]
    valid         bool [b, t]: which memory frames count; None for all
    read-out      [b, H, W, c_v]

with an entry in `READERS`, which makes it a value of `config.model.reader`. The query's b may be 1
beside a memory of several objects. Most differ in their similarity alone, and leave the softmax to
`softmax_read`, whose option `rows` they share.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat

from qmra_jax.errors import InputError
from qmra_jax.network.ops import chunked_attention as softmax
from qmra_jax.network.ops.chunked_attention import softmax_read


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

    Args, beside the module's:
      scale: divide by sqrt(c_k). The paper's equation shows no scale; STM, its source, has it.
      rows: see `softmax_read`.
      fused: take the kernel of `fused_read`, on a GPU or TPU; "interpret": on any device, slowly.
        Its gradient is that of the form which is taken otherwise.

    Raises:
      InputError: as `softmax_read`; or if `fused` is set on a CPU, or is no such value.
    """
    if scale:
        query_key = _scaled(query_key)
    if fused:
        from qmra_jax.network.ops import fused_read as kernels  # Pallas imports in half a second

        like = functools.partial(softmax_read, _product, rows=rows)
        return kernels.fused_read(query_key, memory_key, memory_value, valid, like, fused)
    return softmax_read(_product, query_key, memory_key, memory_value, valid, rows)


def l2(query_key, memory_key, memory_value, valid=None, *, rows: int | None = None):
    """STCN's negative squared distance (Cheng et al. 2021), over sqrt(c_k).

    `-|k_q - k_m|^2 = 2 k_q k_m - |k_m|^2 - |k_q|^2`, of which the softmax does not see the last.
    """
    c_k = query_key.shape[-1]

    def similarity(queries, keys):
        squares = jnp.sum(keys.astype(jnp.float32) ** 2, axis=-1)
        return _product(queries, keys) - squares[:, None, :] / c_k**0.5

    return softmax_read(similarity, 2 * _scaled(query_key), memory_key, memory_value, valid, rows)


def cosine(
    query_key,
    memory_key,
    memory_value,
    valid=None,
    *,
    temperature: float = 0.07,
    rows: int | None = None,
):
    """The angle between keys alone: softmax of `cos(k_q, k_m) / temperature`.

    The temperature is ours: that of contrastive random walks' code (Jabri et al. 2020).

    Raises:
      InputError: if the temperature is not above 0.
    """
    if not temperature > 0:
        raise InputError(f"cosine temperature {temperature!r}: expected a number above 0")
    query_key, memory_key = (_unit(key) for key in (query_key, memory_key))
    query_key = query_key / temperature
    return softmax_read(_product, query_key, memory_key, memory_value, valid, rows)


def kernel(
    query_key,
    memory_key,
    memory_value,
    valid=None,
    *,
    sigma: float = 7.0,
    rows: int | None = None,
):
    """KMN's Gaussian prior (Seong et al. 2020): memory is read near where it matches.

    Each memory place finds the query's place that is most similar to it, and counts less the
    further a place is from that one: by `exp(-distance^2 / (2 sigma^2))`; in training too, here.

    Args, beside the module's:
      sigma: the Gaussian's width in places (16 pixels each); KMN's is 7, `inf` is no prior.
      rows: see `softmax_read`.

    Raises:
      InputError: if sigma is not above 0.
    """
    if not sigma > 0:
        raise InputError(f"kernel sigma {sigma!r}: expected a number above 0")
    height, width = query_key.shape[1:3]
    i, j = (x.ravel() for x in jnp.mgrid[:height, :width])

    def similarity(queries, keys):
        products = _product(queries, keys)
        best = jnp.argmax(products, axis=1)[:, None, :]  # of the query's places: [b, 1, m]
        squared = (i[:, None] - best // width) ** 2 + (j[:, None] - best % width) ** 2
        return products - squared / (2 * sigma**2)

    return softmax_read(similarity, _scaled(query_key), memory_key, memory_value, valid, rows)


def topk(query_key, memory_key, memory_value, valid=None, *, k: int = 30):
    """Eq. 6 with the k most similar memory places alone (MiVOS: Cheng et al. 2021; XMem's k is 30).

    A network is trained with it too, here. Of places that are as similar as the k-th all count.
    Large memories are read for some rows of the query at a time.

    Raises:
      InputError: if k is below 1, or no whole number.
    """
    if not isinstance(k, int) or k < 1:
        raise InputError(f"topk k {k!r}: expected a whole number of at least 1")
    b, t, memory_height, memory_width = memory_key.shape[:4]
    height, width = query_key.shape[1:3]
    keys = rearrange(memory_key, "b t h w c -> b (t h) w c")
    values = rearrange(memory_value, "b t h w c -> b (t h w) c")
    if valid is not None:
        valid = repeat(valid, "b t -> b (t h)", h=memory_height)
    places = t * memory_height * memory_width

    def read(queries):
        logits = softmax.compare(_product, queries, keys, valid)
        least = jax.lax.top_k(jax.lax.stop_gradient(logits), min(k, places))[0][..., -1:]
        weights = jax.nn.softmax(jnp.where(logits >= least, logits, -jnp.inf), axis=-1)
        return jnp.einsum("bqm,bmc->bqc", weights.astype(values.dtype), values)

    query_key = jnp.broadcast_to(_scaled(query_key), (b, *query_key.shape[1:]))
    row_bytes = 4 * b * width * places
    at_a_time = softmax.largest_divisor(height, softmax.PLAIN_BYTES // row_bytes)
    parts = rearrange(query_key, "b (n r) w c -> n b (r w) c", r=at_a_time)
    read_out = read(parts[0])[None] if len(parts) == 1 else jax.lax.map(read, parts)
    return rearrange(read_out, "n b (r w) c -> b (n r) w c", w=width)


def none(query_key, memory_key, memory_value, valid=None):
    """No read (Table 3's "w/o QMA"): the mean of the memory frames' values, place by place."""
    del query_key, memory_key
    if valid is None:
        return reduce(memory_value, "b t h w c -> b h w c", "mean")
    weights = valid / valid.sum(axis=1, keepdims=True)
    return jnp.einsum("bt,bthwc->bhwc", weights.astype(memory_value.dtype), memory_value)


def _product(queries, keys):
    return jnp.einsum("bqc,bmc->bqm", queries, keys, preferred_element_type=jnp.float32)


def _scaled(query_key):
    """Over sqrt(c_k): of the smaller side, and in bfloat16 often by an exact power of two."""
    return query_key / query_key.shape[-1] ** 0.5


def _unit(key):
    """Of length 1, but for those shorter than 1e-6."""
    squares = jnp.sum(key.astype(jnp.float32) ** 2, axis=-1, keepdims=True)
    return (key * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))).astype(key.dtype)


READERS = {
    "dot": dot,
    "l2": l2,
    "cosine": cosine,
    "kernel": kernel,
    "topk": topk,
    "none": none,
}
