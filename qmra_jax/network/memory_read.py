"""Memory Read (Eq. 6): every place of the query gathers the memory's values by key similarity.

A reader is a pure function

    reader(query_key, memory_key, memory_value, valid=None, *, options) -> read-out

    query_key     [b, H, W, c_k]
    memory_key    [b, t, H, W, c_k]
    memory_value  [b, t, H, W, c_v]
    valid         bool [b, t]: which memory frames to read; None for all
    read-out      [b, H, W, c_v]

with an entry in `READERS`, which makes it a value of `config.model.reader`. The query's b may be 1
with a memory of several objects. Most readers only define a similarity and share `softmax_read`
with its option `rows`.
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
    """Eq. 6: `softmax(K^q (K^m)^T / sqrt(c_k)) V^m`, over all memory places.

    Args:
      scale: whether to divide by sqrt(c_k), as in STM; the paper's equation does not show it.
      rows: see `softmax_read`.
      fused: use the kernel of `fused_read` on a GPU or TPU; "interpret": on any device, slowly.
        The gradient is that of the unfused form.

    Raises:
      InputError: if `rows` is invalid (see `softmax_read`) or `fused` is, or is True on a CPU.
    """
    if scale:
        query_key = _scaled(query_key)
    if fused:
        from qmra_jax.network.ops import (
            fused_read as kernels,
        )  # importing Pallas takes half a second

        like = functools.partial(softmax_read, _product, rows=rows)
        return kernels.fused_read(query_key, memory_key, memory_value, valid, like, fused)
    return softmax_read(_product, query_key, memory_key, memory_value, valid, rows)


def l2(query_key, memory_key, memory_value, valid=None, *, rows: int | None = None):
    """STCN's negative squared distance (Cheng et al. 2021), over sqrt(c_k).

    `-|k_q - k_m|^2 = 2 k_q k_m - |k_m|^2 - |k_q|^2`; the last term cancels in the softmax.
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
    """Cosine similarity: softmax of `cos(k_q, k_m) / temperature`.

    The default temperature is that of the contrastive random walk's code (Jabri et al. 2020).

    Raises:
      InputError: if the temperature is not positive.
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

    Each memory place is weighted by `exp(-distance^2 / (2 sigma^2))`, the distance from the query's
    place that matches it best. Unlike KMN, we use the prior in training, too.

    Args:
      sigma: in places (16 pixels each); KMN's is 7, `inf` disables the prior.
      rows: see `softmax_read`.

    Raises:
      InputError: if sigma is not positive.
    """
    if not sigma > 0:
        raise InputError(f"kernel sigma {sigma!r}: expected a number above 0")
    height, width = query_key.shape[1:3]
    i, j = (x.ravel() for x in jnp.mgrid[:height, :width])

    def similarity(queries, keys):
        products = _product(queries, keys)
        best = jnp.argmax(products, axis=1)[:, None, :]  # the best query place: [b, 1, m]
        squared = (i[:, None] - best // width) ** 2 + (j[:, None] - best % width) ** 2
        return products - squared / (2 * sigma**2)

    return softmax_read(similarity, _scaled(query_key), memory_key, memory_value, valid, rows)


def topk(query_key, memory_key, memory_value, valid=None, *, k: int = 30):
    """Eq. 6 over the k most similar memory places only (MiVOS: Cheng et al. 2021; XMem's k is 30).

    Used in training, too. Places that tie with the k-th are included. Large memories are read for
    some rows of the query at a time.

    Raises:
      InputError: if k is not an integer of at least 1.
    """
    if not isinstance(k, int) or k < 1:
        raise InputError(f"topk k {k!r}: expected an integer of at least 1")
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
    """No read (Table 3's "w/o QMA"): the mean of the memory frames' values at each place."""
    if valid is None:
        return reduce(memory_value, "b t h w c -> b h w c", "mean")
    weights = valid / valid.sum(axis=1, keepdims=True)
    return jnp.einsum("bt,bthwc->bhwc", weights.astype(memory_value.dtype), memory_value)


def _product(queries, keys):
    return jnp.einsum("bqc,bmc->bqm", queries, keys, preferred_element_type=jnp.float32)


def _scaled(query_key):
    """`query_key / sqrt(c_k)`: scales the smaller operand, in bfloat16 often by a power of two."""
    return query_key / query_key.shape[-1] ** 0.5


def _unit(key):
    """Normalised to length 1; shorter than 1e-6 stays shorter."""
    squares = jnp.sum(key.astype(jnp.float32) ** 2, axis=-1, keepdims=True)
    return (key * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))).astype(key.dtype)


READERS = {"dot": dot, "l2": l2, "cosine": cosine, "kernel": kernel, "topk": topk, "none": none}
