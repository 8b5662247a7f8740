"""Why the network answers as it does in one frame: what it read, how it weighed it, what it saw.

    explanation = explain_frame(module, variables, frames, [[120, 80, 64, 48]], short_side=324)
    explanation.stages[0].attention       # of the chosen pixel over the memory frames

The frames before the last are propagated as always, so that the memory is what inference has. No
reader and no aggregator knows of this, and one that is added is explained like the others:

- A read-out is linear in the memory's values, so the attention of a place is the derivative of its
  read-out by them.
- The weights of channels or places are found from what was aggregated and what came of it
  (`qmra_jax.explain.explanation`).

`qmra_jax.explain.sheet` draws it.
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
from qmra_jax.network.model import QMRA, Memory
from qmra_jax.network.priors import foreground


def explain_frame(
    module: QMRA,
    variables,
    frames: Iterable[np.ndarray],
    boxes=None,
    *,
    masks: np.ndarray | None = None,
    pixel: tuple[int, int] | None = None,
    first: int = 0,
    short_side: int | None = None,
    **settings,
) -> Explanation:
    """Carries an object to the last of the frames, and tells what the network does there.

    Args:
      module: the network, and
      variables: its weights, as `qmra_jax.load` gives them.
      frames: uint8 `[h, w, 3]` RGB, from the one in which the object is drawn to the one to be
        explained; at least two, of which few are kept.
      boxes: int `[1, 4]`: the object's x, y, width, height; or else
      masks: its mask, as `Propagator.start` takes it.
      pixel: (x, y) in the last frame, whose attention is wanted; None: of the pixels deepest
        inside the object's mask, the one of the highest probability (anywhere, if the mask is
        empty).
      first: number of the first of the frames, in the result.
      short_side: as `Propagator`'s; and
      settings: `interval`, `max_memory`, `extra_frames` of `Propagator`.

    Raises:
      InputError: if there are not two frames or not one object, the pixel is not in the frame, or
        as `Propagator.start`.
    """
    propagator = Propagator(module, variables, short_side=short_side, **settings)
    frames = iter(frames)
    two = list(itertools.islice(frames, 2))
    if len(two) < 2:
        raise InputError(
            f"{len(two)} frames: expected the one with the box, and one or more after it, which"
            " have a memory to read"
        )
    height, width = two[0].shape[:2]
    if pixel is not None and not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
        raise InputError(
            f"pixel {pixel[0]},{pixel[1]}: expected x,y in the frame, which is {width} wide and"
            f" {height} high"
        )
    objects = len(read_prompts((height, width), boxes, masks, None, ()).ids)
    if objects != 1:
        raise InputError(f"{objects} objects: expected one, of which the frame is explained")
    images = map(NumberedFrame, itertools.count(), itertools.chain(two, frames))
    prompts = itertools.chain([{"boxes": boxes, "masks": masks}], itertools.repeat(None))
    seen: dict[int, tuple[Query, np.ndarray]] = {}
    # What the last frame read, and what the next one would.
    memories: collections.deque[tuple[tuple[int, ...], Memory]] = collections.deque(maxlen=2)
    for (number, image, _), result in follow(propagator, zip(images, prompts, strict=False)):
        assert result is not None
        memories.append(propagator.memory(result.ids[0]))
        seen[number] = Query.of(number, image, short_side), result.boxes[0]
        seen = {k: seen[k] for k in sorted({number}.union(*(numbers for numbers, _ in memories)))}
    numbers, memory = memories[0]
    query, _ = seen[number]
    seen = {k: seen[k] for k in numbers}
    pixel = pixel or _most_certain(result)
    (image,), crop = frame_step.pad(query.image)
    place = _place(pixel, query, crop)
    outputs, stages = jax.device_get(_look(module, variables, image, memory, place))
    images = np.stack([query.image for query, _ in seen.values()])
    return Explanation(
        number=first + query.number,
        image=query.image,
        crop=(crop[0], crop[1]),
        pixel=pixel,
        place=place,
        memory_numbers=tuple(first + k for k in seen),
        memory_images=images,
        memory_boxes=np.stack([box for _, box in seen.values()]),
        stages=tuple(Stage(*stage) for stage in stages),
        outputs={name: x[crop[0], crop[1]] for name, x in outputs.items()},
        box=result.boxes[0],
        labels=result.labels,
    )


def attention(read: Callable, query_key, memory_key, place) -> jax.Array:
    """What each memory place counts in the read-out of one query place.

    A reader gathers values with weights that do not depend on them. The derivative of what one
    place gathers, by the values, is therefore its weights, whatever the reader: one read of
    values with a single channel, and its backward pass.

    Args:
      read: a reader with its options filled in (`qmra_jax.network.memory_read`).
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
    """The outputs' probabilities `[16 H, 16 W]` by name, and `Stage`'s arrays by stage."""

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
    """(row, column) of the 16x16 pixels of the network's image in which a pixel of the frame is."""
    row, column = (
        int((at + 0.5) * small / size + cut.start) // 16
        for at, small, size, cut in zip(
            pixel[::-1], query.image.shape, query.frame_size, crop, strict=False
        )
    )
    return row, column


def _most_certain(result: FrameResult) -> tuple[int, int]:
    """(x, y) of the highest probability among those deepest inside the mask."""
    assert result.probabilities is not None
    probability = np.asarray(result.probabilities[1])
    framed = np.pad((result.labels != 0).astype(np.uint8), 1)  # a frame's edge is a mask's, too
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    inside = np.where(2 * depth >= depth.max(), probability, -1)
    y, x = np.unravel_index(np.lexsort((depth.ravel(), inside.ravel()))[-1], depth.shape)
    return int(x), int(y)
