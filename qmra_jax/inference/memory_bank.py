"""The memory bank: which frames are kept, in which slots, and the arrays that hold them.

The memory at frame k is an object's first frame, every `interval`-th frame since, and frame k-1.
The bank's arrays are `[objects, capacity, H, W, c]`; slots are not in the order of time. Both axes
take few sizes, so that a video of any length with any number of objects compiles few programs: a
full bank doubles its capacity, and objects are padded to a bucket.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax.errors import InputError, whole_number
from qmra_jax.network.structures import Memory

FIRST, PREVIOUS, EXTRA = 0, 1, 2  # slots: an object's first frame, frame k-1, the first extra frame
INITIAL_CAPACITY = 4


def bound(max_memory: int | None, extra_frames: bool, default: int = 0) -> int:
    """The effective `max_memory`, 0 for no bound; `default` if None is given.

    Without extra frames it is 2, for the first and the previous frame.

    Raises:
      InputError: if `max_memory` contradicts `extra_frames=False`.
    """
    if extra_frames:
        return default if max_memory is None else max_memory
    if max_memory not in (None, EXTRA):
        raise InputError(f"max_memory {max_memory} without extra frames: expected None")
    return EXTRA


class Slots:
    """Assigns memory frames to slots: bookkeeping on the host, shared by all objects.

    When `max_memory` is reached, the extra frames are thinned evenly: the interval doubles, and
    extras at other than its multiples free their slots. An object that enters after that has few
    extras at first.

    Attributes:
      interval: every `interval`-th frame is kept.
      capacity: number of slots the bank must have.
      extras: frame number -> slot.
    """

    def __init__(self, interval: int, max_memory: int | None = None):
        """Starts empty; `max_memory` includes the first and the previous frame.

        Raises:
          InputError: if either is too small or not a whole number.
        """
        self._max = sys.maxsize
        if max_memory is not None:
            both = ", the first frame and the previous one"
            self._max = whole_number(max_memory, "max_memory", EXTRA, both)
        self.change_interval(interval)
        self.clear()

    def clear(self) -> None:
        """Forgets all frames and undoes any thinning of the interval."""
        self.interval = self._requested_interval
        self.capacity = min(INITIAL_CAPACITY, self._max)
        self.extras: dict[int, int] = {}

    def change_interval(self, interval: int) -> None:
        """Sets the interval for frames to come; kept frames stay.

        Raises:
          InputError: if it is below 1 or not a whole number.
        """
        self.interval = self._requested_interval = whole_number(interval, "interval", 1)

    def forget(self, first: int) -> None:
        """Frees the extras up to frame `first`, in which the oldest remaining object entered."""
        self.extras = {n: s for n, s in self.extras.items() if n > first}

    def capacities(self, frames: int | None) -> list[int]:
        """The capacities that the bank takes in turn over a video of so many frames.

        None means any number of frames if `max_memory` is set; otherwise as many as fit before the
        bank first grows.
        """
        if frames is not None:
            most = min(EXTRA + max(frames - 1, 0) // self._requested_interval, self._max)
        else:
            most = INITIAL_CAPACITY if self._max == sys.maxsize else self._max
        sizes = [min(INITIAL_CAPACITY, self._max)]
        while sizes[-1] < most:
            sizes.append(min(2 * sizes[-1], self._max))
        return sizes

    def place(self, number: int) -> int:
        """Chooses the slot for frame `number`: an extra one or `PREVIOUS`. May grow `capacity`."""
        while len(self.extras) >= self._max - EXTRA:
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
            self.capacity = min(2 * self.capacity, self._max)
        return slot

    def valid(self, number: int, first: np.ndarray) -> np.ndarray:
        """Which slots frame `number` reads: bool `[n, capacity]`.

        The n objects entered in frames `first`, int `[n]`.
        """
        valid = np.zeros((len(first), self.capacity), bool)
        valid[:, FIRST] = True
        valid[:, PREVIOUS] = first < number - 1
        for extra, slot in self.extras.items():
            # Frame k-1 is already there as the previous one, and frames from before an object
            # entered hold nothing of it.
            valid[:, slot] = (first < extra) & (extra < number - 1)
        return valid

    def frames(self, number: int, first: int) -> dict[int, int]:
        """What frame `number` reads of an object that entered in frame `first`.

        Returns:
          frame number -> slot, ascending.
        """
        frame_in = {FIRST: first, PREVIOUS: number - 1} | {s: n for n, s in self.extras.items()}
        valid = self.valid(number, np.asarray([first]))[0]
        return dict(sorted((frame_in[slot], slot) for slot in np.flatnonzero(valid).tolist()))


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
    """Pads the bank to `rows` objects and `capacity` frames, and deletes the old one.

    Each old array is freed as soon as its larger copy exists, which limits peak memory.
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
    """Selects the objects in these rows, int `[m]`, in this order."""
    return jax.tree.map(lambda x: x[rows], memory)


@functools.partial(jax.jit, donate_argnames="memory")
def enter(memory: Memory, entry: Memory, rows: np.ndarray) -> Memory:
    """Writes first frames `[m, 1, H, W, c]` to rows int `[m]`; rows beyond the bank are dropped."""
    return jax.tree.map(lambda x, e: x.at[rows, FIRST].set(e[:, 0], mode="drop"), memory, entry)


def write(memory: Memory, entry: Memory, slots) -> Memory:
    """Writes a frame's memory `[n, 1, H, W, c]` to two slots, int `[2]`, perhaps the same."""

    def put(x, e):
        for slot in (slots[0], slots[1]):
            x = jax.lax.dynamic_update_slice_in_dim(x, e, slot, axis=1)
        return x

    return jax.tree.map(put, memory, entry)
