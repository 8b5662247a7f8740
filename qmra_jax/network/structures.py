"""The network's inputs and outputs, and what its methods pass to each other."""

from typing import NamedTuple

import jax
from flax import struct

from qmra_jax.errors import InputError


class InferenceSettings(NamedTuple):
    """How trained weights are best applied to a video; stored with them.

    Attributes:
      short_side: shorter side of the network's input in pixels; 0: the frame's own size.
      enlarge: whether smaller frames are enlarged to it too.
      interval: every `interval`-th frame stays in the memory.
      max_memory: maximum number of memory frames; 0: unbounded.
    """

    short_side: int = 0
    enlarge: bool = False
    interval: int = 10
    max_memory: int = 0

    def updated(self, **given) -> "InferenceSettings":
        """The settings, with those given that are not None in their place."""
        return self._replace(**{k: value for k, value in given.items() if value is not None})


class Memory(struct.PyTreeNode):
    """Memory frames: a key and a value for each stage.

    Attributes:
      key1: K^m of stage 1 `[b, t, H, W, c_k]`.
      value1: V^m of stage 1 `[b, t, H, W, c_v]`.
      key2: K^m of stage 2 `[b, t, H, W, c_k]`; None in a network of one stage.
      value2: V^m of stage 2 `[b, t, H, W, c_v]`, likewise.
    """

    key1: jax.Array
    value1: jax.Array
    key2: jax.Array | None = None
    value2: jax.Array | None = None


class TokenizedImage(NamedTuple):
    """An image with its frozen features.

    Attributes:
      image: float32 `[b, h, w, 3]` RGB in [0, 1].
      tokens: `[b, H, W, c_f]`; None in a network without frozen features.
    """

    image: jax.Array
    tokens: jax.Array | None = None


class Located(NamedTuple):
    """Output of stage 1.

    Attributes:
      box: logits of B_q, float32 `[b, h, w, 2]`; of a mask if the network has one stage or `align`
        is "mask".
      feature: F_a of stage 1, `[b, H, W, c_a]`.
    """

    box: jax.Array
    feature: jax.Array


class Segmented(NamedTuple):
    """Output of stage 2.

    Attributes:
      mask: logits of S_q, float32 `[b, h, w, 2]`.
      refined: logits of S_q^r, float32 `[b, h, w, 2]`; None without a refiner.
      r4: the query's feature in stage 2, `[b, H, W, c]`.
    """

    mask: jax.Array
    refined: jax.Array | None
    r4: jax.Array


class Answer(NamedTuple):
    """The network's predictions for a frame, and the frame as a memory frame.

    Attributes:
      outputs: logits float32 `[b, h, w, 2]` by name, in the order of `QMRA.targets`.
      box: foreground probability of stage 1's map, or the given map, `[b, h, w, 1]`.
      memory: of this frame, t = 1.
    """

    outputs: dict[str, jax.Array]
    box: jax.Array
    memory: Memory

    @property
    def logits(self) -> jax.Array:
        """The final prediction: the last output."""
        return list(self.outputs.values())[-1]


def check_inputs(query, memory_images, memory_maps) -> None:
    """Raises `InputError` unless the shapes are what `QMRA.__call__` documents."""
    shapes = tuple(tuple(x.shape) for x in (query, memory_images, memory_maps))
    b, t, h, w = shapes[1][:4] if len(shapes[1]) == 5 else (0, 0, 0, 0)
    if shapes != ((b, h, w, 3), (b, t, h, w, 3), (b, t, h, w, 1)) or t == 0:
        raise InputError(
            "query, memory_images, memory_maps of shapes {}, {}, {}: expected [b,h,w,3],"
            " [b,t,h,w,3], [b,t,h,w,1] with at least one memory frame".format(*shapes)
        )
    if h % 16 or w % 16 or not h * w:
        raise InputError(f"images of height {h} and width {w}: expected multiples of 16; pad them")
