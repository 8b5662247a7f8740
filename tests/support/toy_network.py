"""A stand-in for `QMRA` in propagation, which compiles quickly."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce, repeat

from qmra_jax.network.structures import Answer, InferenceSettings, Memory

VARIABLES = {"gain": np.float32(8)}


class ToyNetwork:
    """Matches the colours of 8x8 patches, so that its masks depend on all that it reads.

    Each instance has compiled programs of its own.
    """

    remembers = "box"
    inference = InferenceSettings()

    def apply(self, variables, *arguments, method):
        return getattr(self, method)(variables, *arguments)

    def memorize(self, variables, images, maps):
        key, value = patches(30 * (images - 0.5)), patches(maps)
        return Memory(jnp.broadcast_to(key, (*value.shape[:3], 3))[:, None], value[:, None])

    def answer(self, variables, query, memory, valid=None, given_box=None):
        distances = (
            patches(30 * (query - 0.5))[:, :, :, None, None, None] - memory.key1[:, None, None]
        )
        logits = -jnp.square(distances).sum(axis=-1)  # [n, H, W, t, H, W]
        if valid is not None:
            logits = jnp.where(valid[:, None, None, :, None, None], logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=(3, 4, 5))
        read = jnp.einsum("nhwtxy,ntxyc->nhwc", weights, memory.value1)
        margin = variables["gain"] * (repeat(read, "n h w c -> n (h 8) (w 8) c") - 0.5)
        margin = margin + query.mean(axis=-1, keepdims=True) - 0.5
        box = jax.nn.sigmoid(margin) if given_box is None else given_box
        outputs = {"refined": jnp.concatenate([-margin, margin], axis=-1) / 2}
        return Answer(outputs, box, self.memorize(variables, query, box))


def patches(image):
    """Means of 8x8 pixels: `[b, h, w, c]` -> `[b, h / 8, w / 8, c]`."""
    return reduce(image, "b (h i) (w j) c -> b h w c", "mean", i=8, j=8)
