"""Explains the network's prediction of one frame: what it reads, weights and predicts.

    explanation = explain_frame(module, variables, frames, [[120, 80, 64, 48]])
    explanation.stages[0].attention       # of a pixel over the memory frames

Earlier frames are propagated as always, so the memory is that of inference. This works for any
reader and aggregator: a read-out is linear in the memory's values, so its derivative is the
attention; weights are found from an aggregator's inputs and output (`explanation.py`).
`qmra_jax.explain.sheet` draws the result.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.explain.explanation import Explanation, Stage
from qmra_jax.inference import frame_step
from qmra_jax.inference.frame_loop import NumberedFrame, follow
from qmra_jax.inference.object_tracks import Query
from qmra_jax.inference.prompts import read_prompts
from qmra_jax.inference.propagator import FrameResult, Propagator
from qmra_jax.network import variants
from qmra_jax.network.aggregation import QueryMemoryAggregation
from qmra_jax.network.memory_read import READERS
from qmra_jax.network.model import QMRA
from qmra_jax.network.priors import foreground
from qmra_jax.network.structures import Memory


def explain_frame(
    module: QMRA,
    variables,
    frames: Iterable[np.ndarray],
    boxes=None,
    *,
    masks: np.ndarray | None = None,
    pixel: tuple[int, int] | None = None,
    first: int = 0,
    **settings,
) -> Explanation:
    """Propagates an object to the last of the frames and explains the prediction there.

    Args:
      module: the network.
      variables: its weights, as returned by `qmra_jax.load`.
      frames: at least two frames, uint8 `[h, w, 3]` RGB, from the one with the box to the one to
        explain.
      boxes: int `[1, 4]`: the object's x, y, width, height in the first frame; or
      masks: its mask, as for `Propagator.start`.
      pixel: (x, y) in the last frame, of which to show the attention; None for the most probable
        of the pixels deepest inside the mask (or of all, if the mask is empty).
      first: number of the first frame, for the result.
      settings: of `Propagator`, such as `short_side` and `interval`.

    Raises:
      InputError: if there are fewer than two frames, not exactly one object, or the pixel is
        outside the frame; or as `Propagator.start`.
    """
    propagator = Propagator(module, variables, **settings)
    frames = iter(frames)
    two = list(itertools.islice(frames, 2))
    if len(two) < 2:
        raise InputError(
            f"{len(two)} frames: expected at least two, the one with the box and one to explain"
        )
    height, width = two[0].shape[:2]
    if pixel is not None and not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
        raise InputError(
            f"pixel {pixel[0]},{pixel[1]}: expected x,y in a frame of width {width} and height"
            f" {height}"
        )
    objects = len(read_prompts((height, width), boxes, masks, None, ()).ids)
    if objects != 1:
        raise InputError(f"{objects} objects: expected one")
    numbered = map(NumberedFrame, itertools.count(), itertools.chain(two, frames))
    prompt = {"boxes": boxes, "masks": masks}
    prompted = zip(numbered, itertools.chain([prompt], itertools.repeat(None)), strict=False)
    seen: dict[int, tuple[Query, np.ndarray]] = {}
    # The memory that the last frame read, and the one that the next frame would read.
    memories: collections.deque[tuple[tuple[int, ...], Memory]] = collections.deque(maxlen=2)
    for number, (frame, result) in enumerate(follow(propagator, prompted)):
        assert frame.image is not None
        assert result is not None
        last = result
        memories.append(propagator.memory(result.ids[0]))
        seen[number] = propagator.to_query(number, frame.image), result.boxes[0]
        seen = {k: seen[k] for k in sorted({number}.union(*(numbers for numbers, _ in memories)))}
    numbers, memory = memories[0]
    query, _ = seen[number]
    seen = {k: seen[k] for k in numbers}
    pixel = pixel or _most_certain(last)
    (image,), crop = frame_step.pad(query.image)
    place = _place(pixel, query, crop)
    outputs, stages = jax.device_get(_look(module, variables, image, memory, place))
    return Explanation(
        number=first + query.number,
        image=query.image,
        crop=(crop[0], crop[1]),
        pixel=pixel,
        place=place,
        memory_numbers=tuple(first + k for k in seen),
        memory_images=np.stack([query.image for query, _ in seen.values()]),
        memory_boxes=np.stack([box for _, box in seen.values()]),
        stages=tuple(Stage(*stage) for stage in stages),
        outputs={name: x[crop[0], crop[1]] for name, x in outputs.items()},
        box=last.boxes[0],
        labels=last.labels,
    )


def attention(read: Callable, query_key, memory_key, place) -> jax.Array:
    """The weight of each memory place in the read-out of one query place.

    Weights do not depend on the values, so they are the derivative of a read-out with respect to
    single-channel values, for any reader.

    Args:
      read: a reader with its options bound (`qmra_jax.network.memory_read`).
      query_key: `[1, H, W, c_k]`.
      memory_key: `[1, t, H, W, c_k]`.
      place: (row, column) of the query.

    Returns:
      float32 `[t, H, W]`, which sum to 1.
    """

    def gathered(values):
        return read(query_key, memory_key, values)[0, place[0], place[1], 0]

    return jax.grad(gathered)(jnp.zeros((*memory_key.shape[:4], 1)))[0, ..., 0]


@functools.partial(jax.jit, static_argnames="module")
def _look(module: QMRA, variables, image, memory: Memory, place):
    """Output -> probability `[16 H, 16 W]`, and the fields of each `Stage`."""

    def kept(part, method: str) -> bool:
        is_qma = isinstance(part, QueryMemoryAggregation)
        return method == "__call__" and (is_qma or part.name == "query_kv")

    answer, state = module.apply(
        variables,
        image,
        memory,
        method="answer",
        capture_intermediates=kept,
        mutable=["intermediates"],
    )
    read = variants.choose("reader", READERS, module.reader)
    stages = []
    stored = [(memory.key1, memory.value1), (memory.key2, memory.value2)]
    for k, (memory_key, memory_value) in enumerate(stored[: module.stages], start=1):
        captured: Any = state["intermediates"][f"qma{k}"]
        query_key, query_value = captured["query_kv"]["__call__"][0]
        arrays = (
            attention(read, query_key, memory_key, place),
            query_value[0],
            read(query_key, memory_key, memory_value)[0],
            captured["__call__"][0][0],
        )
        stages.append([x.astype(jnp.float32) for x in arrays])
    outputs = {name: foreground(logits)[0, ..., 0] for name, logits in answer.outputs.items()}
    return outputs, stages


def _place(pixel: tuple[int, int], query: Query, crop) -> tuple[int, int]:
    """(row, column) of the place that contains a pixel of the frame."""
    row, column = (
        int((at + 0.5) * small / size + cut.start) // 16
        for at, small, size, cut in zip(
            pixel[::-1], query.image.shape, query.frame_size, crop, strict=False
        )
    )
    return row, column


def _most_certain(result: FrameResult) -> tuple[int, int]:
    """(x, y) of the most probable of the pixels deepest inside the mask."""
    assert result.probabilities is not None
    probability = np.asarray(result.probabilities[1])
    framed = np.pad((result.labels != 0).astype(np.uint8), 1)  # the frame's border bounds the mask
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    inside = np.where(2 * depth >= depth.max(), probability, -1)
    y, x = np.unravel_index(np.lexsort((depth.ravel(), inside.ravel()))[-1], depth.shape)
    return int(x), int(y)
