"""A stand-in for `QMRA` in propagation, which compiles quickly."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce, repeat

from qmra_jax.network.structures import Answer, InferenceSettings, Memory

VARIABLES = {"gain": np.float32(8)}


class ToyNetwork:
    """Matches colour and position of 8x8 patches; its masks depend on all memory that it reads.

    Each instance has compiled programs of its own.
    """

    dtype = "float32"
    remembers = "box"
    inference = InferenceSettings()

    def clone(self, **_):
        return self

    def apply(self, variables, *arguments, method):
        return getattr(self, method)(variables, *arguments)

    def memorize(self, variables, images, maps):
        key, value = keys(images), patches(maps)
        return Memory(jnp.broadcast_to(key, (len(value), *key.shape[1:]))[:, None], value[:, None])

    def answer(self, variables, query, memory, valid=None, given_box=None):
        differences = keys(query)[:, :, :, None, None, None] - memory.key1[:, None, None]
        logits = -jnp.square(differences).sum(axis=-1)  # [n, H, W, t, H, W]
        if valid is not None:
            logits = jnp.where(valid[:, None, None, :, None, None], logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=(3, 4, 5))
        read = jnp.einsum("nhwtxy,ntxyc->nhwc", weights, memory.value1)
        margin = variables["gain"] * (repeat(read, "n h w c -> n (h 8) (w 8) c") - 0.5)
        margin = margin + query.mean(axis=-1, keepdims=True) - 0.5
        box = jax.nn.sigmoid(margin) if given_box is None else given_box
        outputs = {"refined": jnp.concatenate([-margin, margin], axis=-1) / 2}
        return Answer(outputs, box, self.memorize(variables, query, box))


def keys(images):
    """Colours and positions of patches: `[b, h, w, 3]` -> `[b, h / 8, w / 8, 5]`."""
    colours = patches(30 * (images - 0.5))
    positions = 2.0 * jnp.stack(jnp.indices(colours.shape[1:3]), axis=-1)
    positions = jnp.broadcast_to(positions, (len(colours), *positions.shape))
    return jnp.concatenate([colours, positions], axis=-1)


def patches(images):
    """Means of 8x8 pixels: `[b, h, w, c]` -> `[b, h / 8, w / 8, c]`."""
    return reduce(images, "b (h i) (w j) c -> b h w c", "mean", i=8, j=8)
