"""What the network's methods hand to each other."""

from typing import NamedTuple

import jax
from flax import struct


class Memory(struct.PyTreeNode):
    """What is kept of memory frames: a key and a value for each stage.

    Attributes:
      key1: `[b, t, H, W, c_k]`, for stage 1.
      value1: `[b, t, H, W, c_v]`.
      key2: `[b, t, H, W, c_k]`, for stage 2.
      value2: `[b, t, H, W, c_v]`.
    """

    key1: jax.Array
    value1: jax.Array
    key2: jax.Array
    value2: jax.Array


class Located(NamedTuple):
    """Stage 1's answer.

    Attributes:
      box: logits of B_q, float32 `[b, h, w, 2]`.
      feature: F_a of stage 1, `[b, H, W, c_a]`.
    """

    box: jax.Array
    feature: jax.Array


class Segmented(NamedTuple):
    """Stage 2's answer.

    Attributes:
      mask: logits of S_q, float32 `[b, h, w, 2]`.
      refined: logits of S_q^r, float32 `[b, h, w, 2]`.
      memory: this frame as a memory frame, t = 1.
    """

    mask: jax.Array
    refined: jax.Array
    memory: Memory
