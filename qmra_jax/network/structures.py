"""What the network's methods hand to each other."""

from typing import NamedTuple

import jax
from flax import struct


class Memory(struct.PyTreeNode):
    """What is kept of memory frames: a key and a value for each stage.

    Attributes:
      key1: `[b, t, H, W, c_k]`, for stage 1.
      value1: `[b, t, H, W, c_v]`.
      key2: `[b, t, H, W, c_k]`, for stage 2; None in a network of one stage.
      value2: `[b, t, H, W, c_v]`, likewise.
    """

    key1: jax.Array
    value1: jax.Array
    key2: jax.Array | None = None
    value2: jax.Array | None = None


class Located(NamedTuple):
    """Stage 1's answer.

    Attributes:
      box: logits of B_q, float32 `[b, h, w, 2]`; of a mask where the network has one stage or
        `align` is "mask".
      feature: F_a of stage 1, `[b, H, W, c_a]`.
    """

    box: jax.Array
    feature: jax.Array


class Segmented(NamedTuple):
    """Stage 2's answer.

    Attributes:
      mask: logits of S_q, float32 `[b, h, w, 2]`.
      refined: logits of S_q^r, float32 `[b, h, w, 2]`; None without a refiner.
      r4: the query's feature of stage 2, `[b, H, W, c]`.
    """

    mask: jax.Array
    refined: jax.Array | None
    r4: jax.Array


class Answer(NamedTuple):
    """All that the network makes of a frame.

    Attributes:
      outputs: the logits float32 `[b, h, w, 2]` by name, in the order in which they are made:
        "box", "mask", "refined", or those of them that the network has. The last is its answer.
      box: foreground probability of stage 1's map, `[b, h, w, 1]`: the given one, if any.
      memory: this frame as a memory frame, t = 1.
    """

    outputs: dict[str, jax.Array]
    box: jax.Array
    memory: Memory

    @property
    def logits(self) -> jax.Array:
        """The network's answer: its last output."""
        return list(self.outputs.values())[-1]
