"""The objects being followed, and what is kept of each: its row of the memory bank and the rest.

An object has a row until it is removed; then the row is free for the next one that enters. There
are as many rows as a bucket holds (`memory_bank.bucket`); what a free one contains means nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax.boxes import box_to_map, scale_boxes
from qmra_jax.errors import InputError
from qmra_jax.inference import frame_step, memory_bank
from qmra_jax.inference.prompts import Prompts
from qmra_jax.network.model import QMRA, Memory


class Query(NamedTuple):
    """The frame that objects are found in.

    Attributes:
      number: counted from the frame that the video was started with.
      image: uint8 `[h', w', 3]` RGB, the frame at the network's size.
      frame_size: (h, w) of the frame itself.
    """

    number: int
    image: np.ndarray
    frame_size: tuple[int, int]

    @classmethod
    def of(cls, number: int, frame: np.ndarray, short_side: int | None) -> "Query":
        """The frame uint8 `[h, w, 3]`, shrunk if its shorter side is more than `short_side`.

        It is a copy, as a camera's reader may fill the same array with the next frame.
        """
        height, width = frame.shape[:2]
        if short_side is not None and min(height, width) > short_side:
            factor = short_side / min(height, width)
            size = (round(width * factor), round(height * factor))
            image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        else:
            image = frame.copy()
        return cls(number, image, (height, width))


class Tracks:
    """Objects that enter a video, are tracked through it frame by frame, and are removed.

    Attributes:
      slots: which frames the memory has.
      memory: `[rows, capacity, H, W, c]`, a `Memory` by row; None while there is no object.
    """

    def __init__(
        self,
        module: QMRA,
        variables,
        *,
        merge: Callable,
        interval: int,
        max_memory: int | None,
    ):
        """Without an object; compiles nothing yet.

        Args:
          module: the network, and
          variables: its weights.
          merge: one of `object_merging.MERGES`.
          interval: as `memory_bank.Slots`, at first and again after `clear`; and
          max_memory: as `memory_bank.Slots`.

        Raises:
          InputError: as `memory_bank.Slots`.
        """
        self._new_slots = functools.partial(memory_bank.Slots, interval, max_memory)
        self.clear()
        self._remembers = module.remembers
        self._variables = jax.device_put(variables)
        (device,) = jax.tree.leaves(self._variables)[0].devices()
        self._on_cpu = device.platform == "cpu"
        self._track: Callable = functools.partial(frame_step.track, module)
        self._enter: Callable = functools.partial(frame_step.enter, module)
        self._merge = functools.partial(frame_step.merge_objects, merge=merge)

    def clear(self) -> None:
        """Forgets every object and frame, for another video."""
        self.slots = self._new_slots()
        self._free()

    def _free(self) -> None:
        """Gives back what is kept of objects, of which there are none."""
        self.memory: Any = None
        self._rows: dict[int, int] = {}  # id -> row
        self._first = np.zeros(0, np.int32)  # [rows]: the frame in which each object entered
        self._margins: Any = None  # float32 [rows, h, w], of the last frame
        self._boxes: Any = None  # int32 [rows, 4], B_q's boxes in the last frame's image
        self._given: dict[int, np.ndarray] = {}  # id -> int32 [4], if it entered in the last frame

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects' ids, in ascending order."""
        return tuple(sorted(self._rows))

    def track(self, query: Query) -> None:
        """Finds the objects there are in the next frame, and remembers it."""
        if not self._rows:
            return  # the frame is nobody's memory
        valid = self.slots.valid(query.number, self._first)
        slots = np.asarray([memory_bank.PREVIOUS, self.slots.place(query.number)], np.int32)
        rows, capacity = self._first.size, self.slots.capacity
        if capacity > valid.shape[1]:
            self.memory = memory_bank.grow(self.memory, rows, capacity)
            valid = np.pad(valid, ((0, 0), (0, capacity - valid.shape[1])))
        self._margins, self._boxes, self.memory = self._track(
            self._variables,
            self.memory,
            valid,
            slots,
            query.image,
            query.frame_size,
            in_turn=self._in_turn(query, self._order(), len(self._rows)),
        )
        self._given = {}

    def enter(self, query: Query, entering: Prompts) -> None:
        """Finds new objects in the last frame, from their boxes, and remembers it for them.

        Args:
          query: the frame that was tracked last, or a video's first.
          entering: n objects, none of whose ids is in use.
        """
        ids, boxes, _ = entering
        count = memory_bank.bucket(len(ids))
        small = self._maps(query, entering)
        small = np.concatenate([small, np.repeat(small[:1], count - len(ids), axis=0)])
        margins, entry = self._enter(
            self._variables,
            query.image,
            small,
            query.frame_size,
            in_turn=self._in_turn(query, np.arange(count, dtype=np.int32), len(ids)),
        )

        taken = set(self._rows.values())
        before = self._first.size
        rows = max(memory_bank.bucket(len(taken) + len(ids)), before)
        free = [row for row in range(rows) if row not in taken][: len(ids)]
        self._make_room(query, entry, rows)
        place = np.asarray(free + [rows] * (count - len(ids)), np.int32)  # the rest is left out
        self.memory = memory_bank.enter(self.memory, entry, place)
        self._margins = self._margins.at[place].set(margins, mode="drop")
        self._first[free] = query.number
        self._rows.update(zip(ids, free, strict=True))
        self._given.update(zip(ids, boxes, strict=True))

    def remove(self, id: int) -> None:
        """Forgets an object, and with the last one all frames.

        Raises:
          InputError: if there is no such object.
        """
        self._row(id)
        del self._rows[id]
        self._given.pop(id, None)
        if not self._rows:
            self.slots.clear()
            self._free()
            return
        rows = memory_bank.bucket(len(self._rows))
        if rows < len(self._first):
            # The bank shrinks to the next smaller bucket; row 0 fills it up.
            kept = np.zeros(rows, np.int32)
            kept[: len(self._rows)] = list(self._rows.values())
            by_row = (self.memory, self._margins, self._boxes)
            self.memory, self._margins, self._boxes = memory_bank.keep(by_row, kept)
            self._first = self._first[kept]
            self._rows = {i: row for row, i in enumerate(self._rows)}
        self.slots.forget(min(int(self._first[row]) for row in self._rows.values()))

    def read(self, number: int, id: int) -> tuple[tuple[int, ...], Memory]:
        """What frame `number` is to read of an object, as `Propagator.memory` gives it."""
        row = self._row(id)
        frames = self.slots.frames(number, int(self._first[row]))
        slots = np.asarray(list(frames.values()))
        return tuple(frames), jax.tree.map(lambda x: x[row, slots][None], self.memory)

    def merge(self, query: Query) -> tuple[np.ndarray, np.ndarray, jax.Array | None]:
        """All objects as they were found in the last frame, the labels and boxes on the host.

        Args:
          query: the last frame.

        Returns:
          labels uint8 `[h, w]`, 0 or an id; boxes int32 `[n, 4]` in pixels of the frame, in the
          order of `ids`, of B_q or as given; and probabilities float32 `[n + 1, h, w]`, background
          first, or None if there is no object.
        """
        if not self._rows:
            return np.zeros(query.frame_size, np.uint8), np.zeros((0, 4), np.int32), None
        ids, rows = self.ids, self._first.size
        order = self._order()
        table = np.zeros(rows + 1, np.uint8)
        table[1 : len(ids) + 1] = ids
        alive = np.arange(rows) < len(ids)
        labels, probabilities = self._merge(self._margins, order, alive, table)
        labels, boxes = jax.device_get((labels, self._boxes))
        boxes = scale_boxes(boxes[order[: len(ids)]], query.image.shape[:2], query.frame_size)
        for box, i in zip(boxes, ids, strict=True):
            box[:] = self._given.get(i, box)
        return labels, boxes, probabilities[: len(ids) + 1]

    def _row(self, id: int) -> int:
        if id not in self._rows:
            known = ", ".join(map(str, self.ids)) or "none"
            raise InputError(f"object {id}: there is none of this id; there are {known}")
        return self._rows[id]

    def _maps(self, query: Query, entering: Prompts) -> np.ndarray:
        """What is given of the objects, float32 `[n, h', w']` at the network's size."""
        height, width = query.image.shape[:2]
        if entering.masks is None or self._remembers == "box":
            small = scale_boxes(entering.boxes, query.frame_size, (height, width))
            return box_to_map(small, height, width)
        whole = entering.masks.astype(np.float32)
        resize = functools.partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
        return np.stack([resize(mask) for mask in whole])

    def _make_room(self, query: Query, entry, rows: int) -> None:
        """For as many rows, if there are fewer; `entry` is a memory as the bank is to hold."""
        more = rows - self._first.size
        if self.memory is None:
            self.memory = memory_bank.empty(entry, rows, self.slots.capacity)
            self._margins = jnp.zeros((rows, *query.frame_size))
            self._boxes = jnp.zeros((rows, 4), np.int32)
        elif more:
            self.memory = memory_bank.grow(self.memory, rows, self.slots.capacity)
            self._margins = jnp.pad(self._margins, ((0, more), (0, 0), (0, 0)))
            self._boxes = jnp.pad(self._boxes, ((0, more), (0, 0)))
        self._first = np.pad(self._first, (0, more))

    def _order(self) -> np.ndarray:
        """int32 `[rows]`: those of the objects by ascending id, then any."""
        order = np.zeros(self._first.size, np.int32)
        order[: len(self._rows)] = [self._rows[i] for i in self.ids]
        return order

    def _in_turn(
        self, query: Query, rows: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.int32] | None:
        """The first `count` of these rows, to be seen one after another; None: as a batch."""
        large = query.image.shape[0] * query.image.shape[1] >= frame_step.IN_TURN_PIXELS
        return (rows, np.int32(count)) if self._on_cpu and large and len(rows) > 1 else None
