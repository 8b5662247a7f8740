"""The jitted programs of propagation: objects tracked into a frame, entered, and merged."""

import functools

import jax
import jax.numpy as jnp

from qmra_jax import boxes
from qmra_jax.inference import memory_bank

# Pixels of a frame from which on a CPU is quicker with one object after another (480p: 1.2 times),
# and below which with a batch (240p: 1.2 times), as all objects' activations fit its cache.
IN_TURN_PIXELS = 2**18


@functools.partial(jax.jit, static_argnames=("module", "frame_size"))
def enter(module, variables, image, given, frame_size, *, in_turn=None):
    """Objects' first frame: the given maps stand for B_q, and it is its own memory.

    f_m is asked twice for the same features, of which the compiler makes one.

    Args:
      module: `QMRA`, and
      variables: its weights.
      image: uint8 `[h', w', 3]`, the frame at the network's size.
      given: float32 `[n, h', w']` in [0, 1]: the maps that are given of them in that image.
      frame_size: (h, w) of the frame itself.
      in_turn: which objects to see one after another; None for all as a batch. See `_for_each`.

    Returns:
      the margins float32 `[n, h, w]`, foreground minus background logits of the network's answer,
      and the frame as a memory of each object, `[n, 1, H, W, c]`.
    """

    def see(given):
        (query, maps), crop = pad(image, given[..., None])
        memory = module.apply(variables, query, maps, method="memorize")
        answer = module.apply(variables, query, memory, None, maps, method="answer")
        return _margins(answer.logits, crop, frame_size), memory

    return _for_each(see, given, in_turn)


@functools.partial(
    jax.jit,
    static_argnames=("module", "frame_size"),
    donate_argnames=("memory",),
)
def track(module, variables, memory, valid, slots, image, frame_size, *, in_turn=None):
    """A frame: located, segmented, and written into the memory's slots.

    Args:
      module: `QMRA`, and
      variables: its weights.
      memory: the bank `[n, capacity, H, W, c]`, which is consumed.
      valid: bool `[n, capacity]`.
      slots: int32 `[2]`: where the frame's own memory goes.
      image: uint8 `[h', w', 3]`, the frame at the network's size.
      frame_size: (h, w) of the frame itself.
      in_turn: which objects to see one after another; None for all as a batch. See `_for_each`.

    Returns:
      the margins float32 `[n, h, w]`, the boxes of stage 1's map int32 `[n, 4]` in that image, and
      the bank.
    """

    def see(known):
        memory, valid = known
        (query,), crop = pad(image)
        answer = module.apply(variables, query, memory, valid, method="answer")
        box = boxes.map_to_box(answer.box[:, crop[0], crop[1], 0])
        return _margins(answer.logits, crop, frame_size), box, answer.memory

    margins, box, entry = _for_each(see, (memory, valid), in_turn)
    return margins, box, memory_bank.write(memory, entry, slots)


def _for_each(see, objects, in_turn):
    """`see` of a batch of objects `[n, ...]`, or of some of them one after another.

    An accelerator works best on a batch. In a CPU's cache there is room for a large frame's
    activations of one object sooner than for those of all (`IN_TURN_PIXELS`); and rows that only
    fill up a bucket are passed over. What does not depend on the object is computed once either
    way: the compiler takes it out of the loop.

    Args:
      see: gives a tree of arrays `[n, ...]`.
      objects: a tree of arrays `[n, ...]`.
      in_turn: None for a batch; or rows int32 `[n]` and how many of them, from the first on, are to
        be seen. The others get zeros, and seen rows what a batch gives, to rounding.
    """
    if in_turn is None:
        return see(objects)
    rows, count = in_turn

    def one(row):
        return see(jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, row, 1), objects))

    def step(turn, seen):
        row = rows[turn]
        put = jax.lax.dynamic_update_slice_in_dim
        return jax.tree.map(lambda all, new: put(all, new, row, 0), seen, one(row))

    shapes = jax.eval_shape(one, rows[0])
    nothing = jax.tree.map(lambda x: jnp.zeros((len(rows), *x.shape[1:]), x.dtype), shapes)
    return jax.lax.fori_loop(0, count, step, nothing)


@functools.partial(jax.jit, static_argnames="merge")
def merge_objects(margins, order, alive, table, *, merge):
    """One label map of all objects.

    Args:
      margins: float32 `[n, h, w]`, by row of the bank.
      order: int32 `[n]`: rows by ascending id, then any.
      alive: bool `[n]`: which of these exist.
      table: uint8 `[n + 1]`: 0, then their ids.
      merge: one of `object_merging.MERGES`.

    Returns:
      labels uint8 `[h, w]`, and probabilities float32 `[n + 1, h, w]` in that order, background
      first.
    """
    probabilities = merge(margins[order], alive)
    return jnp.asarray(table)[jnp.argmax(probabilities, axis=0)], probabilities


def pad(image, *maps):
    """Symmetric zeros to multiples of 16, the smaller half top and left.

    Args:
      image: uint8 `[h', w', 3]`.
      maps: float32 `[n, h', w', 1]` each.

    Returns:
      the image as a query `[1, h, w, 3]` in [0, 1] and the maps, and the slices to crop by.
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
