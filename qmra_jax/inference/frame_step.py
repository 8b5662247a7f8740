"""The jitted programs of propagation: enter objects, track them, merge them.

`enter` and `track` take the network `module` and its `variables`, the frame as `image` uint8
`[h', w', 3]` at the network's size, its own size `frame_size` (h, w), and `in_turn`, for which see
`_for_each`. Margins are foreground minus background logits at the frame's own size.
"""

import functools

import jax
import jax.numpy as jnp

from qmra_jax import boxes
from qmra_jax.inference import memory_bank

# On a CPU, frames of at least this many pixels run faster object by object (1.2 times at 480p), as
# one object's activations then fit the cache; smaller ones as a batch (1.2 times at 240p).
IN_TURN_PIXELS = 2**18


@functools.partial(jax.jit, static_argnames=("module", "frame_size"))
def enter(module, variables, image, maps, frame_size, *, in_turn=None):
    """Segments objects in their first frame, with given maps in place of B_q.

    The frame is its own memory. f_m runs twice on the same features; the compiler merges the two.

    Args:
      maps: float32 `[n, h', w']` in [0, 1], of the objects in that image.

    Returns:
      margins float32 `[n, h, w]`, and the frame's memory of each object `[n, 1, H, W, c]`.
    """

    def see(maps):
        (query, maps), crop = pad(image, maps[..., None])
        memory = module.apply(variables, query, maps, method="memorize")
        answer = module.apply(variables, query, memory, None, maps, method="answer")
        return _margins(answer.logits, crop, frame_size), memory

    return _for_each(see, maps, in_turn)


@functools.partial(jax.jit, static_argnames=("module", "frame_size"), donate_argnames="memory")
def track(module, variables, memory, valid, slots, image, frame_size, *, in_turn=None):
    """Segments objects in the next frame and writes it to their memory.

    Args:
      memory: the bank `[n, capacity, H, W, c]`, donated.
      valid: bool `[n, capacity]`: the slots to read.
      slots: int32 `[2]`: where to write the frame's memory.

    Returns:
      margins float32 `[n, h, w]`, boxes of B_q in the image int32 `[n, 4]`, and the bank.
    """

    def see(objects):
        memory, valid = objects
        (query,), crop = pad(image)
        answer = module.apply(variables, query, memory, valid, method="answer")
        box = boxes.map_to_box(answer.box[:, crop[0], crop[1], 0])
        return _margins(answer.logits, crop, frame_size), box, answer.memory

    margins, box, entry = _for_each(see, (memory, valid), in_turn)
    return margins, box, memory_bank.write(memory, entry, slots)


def _for_each(see, objects, in_turn):
    """Applies `see` to all objects as a batch, or to one after another.

    A batch is best on an accelerator. On a CPU one large object at a time fits the cache better
    (`IN_TURN_PIXELS`), and the padding of a bucket is skipped. The compiler hoists what does not
    depend on the object out of the loop.

    Args:
      see: maps a tree of arrays `[n, ...]` to another.
      objects: a tree of arrays `[n, ...]`.
      in_turn: None for a batch; or (rows int32 `[n]`, count): only the first `count` rows are
        computed, one by one, and equal a batch's up to rounding. The others are zeros.
    """
    if in_turn is None:
        return see(objects)
    rows, count = in_turn

    def see_row(row):
        return see(jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, row, 1), objects))

    def body(turn, outputs):
        row = rows[turn]
        update = jax.lax.dynamic_update_slice_in_dim
        return jax.tree.map(lambda out, x: update(out, x, row, 0), outputs, see_row(row))

    shapes = jax.eval_shape(see_row, rows[0])
    zeros = jax.tree.map(lambda x: jnp.zeros((len(rows), *x.shape[1:]), x.dtype), shapes)
    return jax.lax.fori_loop(0, count, body, zeros)


@functools.partial(jax.jit, static_argnames="merge")
def merge_objects(margins, order, alive, table, *, merge):
    """Merges all objects into one label map with one of `object_merging.MERGES`.

    Args:
      margins: float32 `[n, h, w]`, by row of the bank.
      order: int32 `[n]`: rows by ascending id, then padding.
      alive: bool `[n]`: which of these exist.
      table: uint8 `[n + 1]`: 0, then their ids.

    Returns:
      labels uint8 `[h, w]`, and probabilities float32 `[n + 1, h, w]` in that order.
    """
    probabilities = merge(margins[order], alive)
    return jnp.asarray(table)[jnp.argmax(probabilities, axis=0)], probabilities


def pad(image, *maps):
    """Pads symmetrically with zeros to multiples of 16, the smaller half top and left.

    Args:
      image: uint8 `[h', w', 3]`; becomes float32 `[1, h, w, 3]` in [0, 1].
      *maps: float32 `[n, h', w', 1]`.

    Returns:
      [image, *maps], and the two slices that undo the padding.
    """
    image = image[None].astype(jnp.float32) / 255
    pads, crop = [(0, 0)], []
    for size in image.shape[1:3]:
        before = -size % 16 // 2
        pads.append((before, -size % 16 - before))
        crop.append(slice(before, before + size))
    pads.append((0, 0))
    return [jnp.pad(x, pads) for x in (image, *maps)], crop


def _margins(logits, crop, frame_size):
    """Foreground minus background at the frame's size: logits `[n, h', w', 2]` -> `[n, h, w]`."""
    margins = (logits[..., 1] - logits[..., 0])[:, crop[0], crop[1]]
    if margins.shape[1:] != frame_size:
        margins = jax.image.resize(margins, (margins.shape[0], *frame_size), "linear")
    return margins
