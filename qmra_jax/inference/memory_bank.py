"""The memory bank: which frames are kept, in which slots, and the arrays that hold them.

The memory of frame k is an object's first frame, every `interval`-th frame since, and frame k-1.
The bank's arrays are `[objects, capacity, H, W, c]`; a frame's slot says nothing of its age. Both
axes have few sizes, so that a video of any length with any number of objects compiles a handful of
programs: the capacity doubles when it is full, the objects are padded to a bucket.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax.errors import InputError, whole_number
from qmra_jax.network.model import Memory

FIRST, PREVIOUS, EXTRA = 0, 1, 2  # slots: an object's first frame, frame k-1, and on: the extras
INITIAL_CAPACITY = 4


def bound(max_memory: int | None, extra_frames: bool) -> int | None:
    """The `max_memory` to use: without extra frames, an object's first and the previous one alone.

    Raises:
      InputError: if both are given and they are not the same.
    """
    if extra_frames:
        return max_memory
    if max_memory not in (None, EXTRA):
        raise InputError(f"max_memory {max_memory} without extra frames: expected None")
    return EXTRA


class Slots:
    """Where memory frames lie: bookkeeping on the host, frame numbers alone.

    With `max_memory` the extra frames are thinned evenly once there is no room: the interval
    doubles, and the extras that are no multiples of it make room. Slots are reused in place. The
    slots are the same for all objects: one that enters late, when the interval has grown, has few
    extras for that long. Extras from before any object left entered are forgotten.

    Attributes:
      interval: every so many frames one stays.
      capacity: slots the bank must have.
      extras: frame number -> slot.
    """

    def __init__(self, interval: int, max_memory: int | None = None):
        """Starts empty.

        Args:
          interval: at first.
          max_memory: frames that may be kept in all, the first and the previous one among them.

        Raises:
          InputError: if either is too small, or no whole number.
        """
        if max_memory is not None:
            both = ", the first frame and the previous one"
            max_memory = whole_number(max_memory, "max_memory", EXTRA, both)
        self._max = max_memory
        self.change_interval(interval)
        self.clear()

    def clear(self) -> None:
        """Forgets every frame; the interval is what was asked for last, before any thinning."""
        self.interval = self._asked
        self.capacity = min(INITIAL_CAPACITY, self._max or INITIAL_CAPACITY)
        self.extras: dict[int, int] = {}

    def change_interval(self, interval: int) -> None:
        """From now on; what is kept stays.

        Raises:
          InputError: if it is below 1, or no whole number.
        """
        self.interval = self._asked = whole_number(interval, "interval", 1)

    def forget(self, first: int) -> None:
        """Frees the extras up to frame `first`, in which the oldest object left entered."""
        self.extras = {n: s for n, s in self.extras.items() if n > first}

    def capacities(self, frames: int | None) -> list[int]:
        """The sizes that the bank has in turn while so many frames are tracked from the start.

        None is any number of frames if there is a `max_memory`, and else as many as fit before the
        bank first grows.
        """
        if frames is None:
            most = self._max or INITIAL_CAPACITY
        else:
            most = EXTRA + max(frames - 1, 0) // self._asked
        sizes = [min(INITIAL_CAPACITY, self._max or INITIAL_CAPACITY)]
        while sizes[-1] < min(most, self._max or most):
            sizes.append(self._grown(sizes[-1]))
        return sizes

    def _grown(self, capacity: int) -> int:
        return min(2 * capacity, self._max or 2 * capacity)

    def place(self, number: int) -> int:
        """The slot for frame `number` once it is past: an extra's, or `PREVIOUS` alone.

        The capacity may grow by this.
        """
        while self._max is not None and len(self.extras) >= self._max - EXTRA:
            if number % self.interval or self._max == EXTRA:
                return PREVIOUS
            self.interval *= 2
            self.extras = {n: s for n, s in self.extras.items() if n % self.interval == 0}
        if number % self.interval:
            return PREVIOUS
        taken = set(self.extras.values())
        slot = next(s for s in range(EXTRA, EXTRA + len(taken) + 1) if s not in taken)
        self.extras[number] = slot
        if slot >= self.capacity:
            self.capacity = self._grown(self.capacity)
        return slot

    def valid(self, number: int, first: np.ndarray) -> np.ndarray:
        """Which slots count for frame `number`.

        Args:
          number: of the frame that will read the memory.
          first: int `[n]`: the frame in which each object entered.

        Returns:
          bool `[n, capacity]`.
        """
        valid = np.zeros((len(first), self.capacity), bool)
        valid[:, FIRST] = True
        valid[:, PREVIOUS] = first < number - 1
        for extra, slot in self.extras.items():
            # Frame k-1 is there already, as the previous one; and what lies there from before an
            # object entered is another's.
            valid[:, slot] = (first < extra) & (extra < number - 1)
        return valid

    def frames(self, number: int, first: int) -> dict[int, int]:
        """What frame `number` reads of an object that entered in frame `first`.

        Returns:
          frame number -> slot, in ascending order.
        """
        lies = {FIRST: first, PREVIOUS: number - 1} | {s: n for n, s in self.extras.items()}
        valid = self.valid(number, np.asarray([first]))[0]
        return dict(sorted((lies[slot], slot) for slot in np.flatnonzero(valid).tolist()))


def bucket(n: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, ... that holds n objects."""
    size = 1
    while size < n:
        size = size + 1 if size < 3 else size * 4 // 3 if size % 3 == 0 else size * 3 // 2
    return size


@functools.partial(jax.jit, static_argnames=("rows", "capacity"))
def empty(entry: Memory, rows: int, capacity: int) -> Memory:
    """A bank of zeros for memories like `entry` `[n, 1, H, W, c]`."""
    return jax.tree.map(lambda x: jnp.zeros((rows, capacity, *x.shape[2:]), x.dtype), entry)


def grow(memory: Memory, rows: int, capacity: int) -> Memory:
    """The bank with room for `rows` objects and `capacity` frames; the old one is consumed.

    No array can be reused for one of another size, so each is freed once its larger copy is made:
    beside the new bank there is never more than a part of the old one.
    """

    def larger(x):
        grown = _pad(x, rows, capacity)
        x.delete()
        return grown

    return jax.tree.map(larger, memory)


@functools.partial(jax.jit, static_argnames=("rows", "capacity"))
def _pad(x, rows: int, capacity: int):
    more = [(0, rows - x.shape[0]), (0, capacity - x.shape[1])]
    return jnp.pad(x, [*more, *[(0, 0)] * (x.ndim - 2)])


@jax.jit
def keep(memory: Memory, rows: np.ndarray) -> Memory:
    """The bank of these objects alone, in this order: int `[m]`."""
    return jax.tree.map(lambda x: x[rows], memory)


@functools.partial(jax.jit, donate_argnames="memory")
def enter(memory: Memory, entry: Memory, rows: np.ndarray) -> Memory:
    """Puts first frames `[m, 1, H, W, c]` in rows int `[m]`; a row beyond the bank is left out."""
    return jax.tree.map(lambda x, e: x.at[rows, FIRST].set(e[:, 0], mode="drop"), memory, entry)


def write(memory: Memory, entry: Memory, slots) -> Memory:
    """Puts a frame's memory `[n, 1, H, W, c]` in two slots, int `[2]`, which may be the same."""

    def put(x, e):
        for slot in (slots[0], slots[1]):
            x = jax.lax.dynamic_update_slice_in_dim(x, e, slot, axis=1)
        return x

    return jax.tree.map(put, memory, entry)
