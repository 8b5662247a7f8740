"""What the network takes, and what its methods hand to each other."""

from typing import NamedTuple

import jax
from flax import struct

from qmra_jax.errors import InputError


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


class TokenizedImage(NamedTuple):
    """An image, and what the frozen features see in it.

    Attributes:
      image: float32 `[b, h, w, 3]` RGB in [0, 1].
      tokens: `[b, H, W, c_f]`; None in a network without frozen features.
    """

    image: jax.Array
    tokens: jax.Array | None = None


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


def check_inputs(query, memory_images, memory_maps) -> None:
    """Raises `InputError` unless the shapes are what `QMRA.__call__` documents."""
    shapes = tuple(tuple(x.shape) for x in (query, memory_images, memory_maps))
    b, h, w = shapes[0][:3] if len(shapes[0]) == 4 else (0, 0, 0)
    t = shapes[1][1] if len(shapes[1]) == 5 else 0
    if shapes != ((b, h, w, 3), (b, t, h, w, 3), (b, t, h, w, 1)) or t == 0:
        raise InputError(
            f"query, memory_images, memory_maps of shapes {shapes[0]}, {shapes[1]}, {shapes[2]}:"
            " expected [b,h,w,3], [b,t,h,w,3], [b,t,h,w,1] with at least one memory frame"
        )
    if h % 16 or w % 16 or not h * w:
        raise InputError(
            f"images {h} high and {w} wide: both must be multiples of 16; pad with zeros"
        )
