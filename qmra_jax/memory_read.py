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

import jax
import jax.numpy as jnp
from einops import rearrange, repeat


def dot(query_key, memory_key, memory_value, valid=None, *, scale: bool = True):
    """Eq. 6: softmax over all memory places of `K_q K_m^T / sqrt(c_k)`, times `V_m`.

    Args:
      query_key: see the module.
      memory_key: see the module.
      memory_value: see the module.
      valid: see the module.
      scale: divide by sqrt(c_k). The paper's equation shows no scale; STM, its source, has it.

    Returns:
      `[b, H, W, c_v]`, in the values' dtype; the softmax is taken in float32.
    """
    height, width, c_k = query_key.shape[1:]
    queries = rearrange(query_key, "b h w c -> b (h w) c")
    if scale:
        queries = queries / c_k**0.5  # the smaller side, and in bfloat16 an exact power of two
    keys = rearrange(memory_key, "b t h w c -> b (t h w) c")
    values = rearrange(memory_value, "b t h w c -> b (t h w) c")
    similarity = jnp.einsum("bqc,bmc->bqm", queries, keys, preferred_element_type=jnp.float32)
    if valid is not None:
        places = repeat(valid, "b t -> b 1 (t p)", p=memory_key.shape[2] * memory_key.shape[3])
        similarity = jnp.where(places, similarity, -jnp.inf)
    weights = jax.nn.softmax(similarity, axis=-1).astype(values.dtype)
    read_out = jnp.einsum("bqm,bmc->bqc", weights, values)
    return rearrange(read_out, "b (h w) c -> b h w c", h=height, w=width)


READERS = {"dot": dot}
