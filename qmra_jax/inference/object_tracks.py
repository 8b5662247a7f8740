"""The objects being tracked and the state of each: its row of the memory bank, boxes, logits.

An object keeps its row until it is removed; the row is then free for the next one that enters. The
number of rows is a bucket size (`memory_bank.bucket`); the contents of free rows are undefined.
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
from qmra_jax.network.model import QMRA
from qmra_jax.network.structures import Memory

NOT_HERE = -50.0  # margin of a probability of 0


class Query(NamedTuple):
    """The current frame."""

    number: int  # 0 for the frame that the video was started with
    image: np.ndarray  # uint8 [h', w', 3] RGB, the frame at the network's size
    frame_size: tuple[int, int]  # (h, w) of the frame itself

    @classmethod
    def of(cls, number: int, frame: np.ndarray, short_side: int, enlarge: bool = False) -> "Query":
        """Copies a frame uint8 `[h, w, 3]`, resized to a shorter side of `short_side` pixels.

        Smaller frames are resized only if `enlarge`; 0 resizes none. A copy, because a camera may
        reuse the array for its next frame.
        """
        height, width = frame.shape[:2]
        factor = short_side / min(height, width)
        if 0 < factor < 1 or (enlarge and factor > 1):
            size = (round(width * factor), round(height * factor))
            interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            image = cv2.resize(frame, size, interpolation=interpolation)
        else:
            image = frame.copy()
        return cls(number, image, (height, width))


class Tracks:
    """Objects that enter a video, are tracked frame by frame, and are removed.

    Attributes:
      slots: which frames are in the memory.
      memory: `Memory` of `[rows, capacity, H, W, c]`; None while there are no objects.
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
        """Starts without objects; compiles nothing yet.

        `merge` is one of `object_merging.MERGES`; `interval`, which `clear` restores, and
        `max_memory` are those of `memory_bank.Slots`.
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
        """Forgets all objects and frames, for another video."""
        self.slots = self._new_slots()
        self._free()

    def _free(self) -> None:
        """Releases the arrays when there are no objects."""
        self.memory: Any = None
        self._rows: dict[int, int] = {}  # id -> row
        self._first = np.zeros(0, np.int32)  # [rows]: the frame in which each object entered
        self._margins: Any = None  # float32 [rows, h, w], of the last frame
        self._boxes: Any = None  # int32 [rows, 4], B_q's boxes in the last frame's image
        self._prompt_boxes: dict[int, np.ndarray] = {}  # id -> int32 [4], if it has just entered

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending."""
        return tuple(sorted(self._rows))

    def track(self, query: Query) -> None:
        """Segments all objects in the next frame and adds it to their memory."""
        if not self._rows:
            return
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
        self._prompt_boxes = {}

    def enter(self, query: Query, entering: Prompts) -> None:
        """Segments new objects, with unused ids, in the last frame and makes it their memory."""
        ids, boxes, _ = entering
        count = memory_bank.bucket(len(ids))
        maps = self._maps(query, entering)
        maps = np.concatenate([maps, np.repeat(maps[:1], count - len(ids), axis=0)])
        margins, entry = self._enter(
            self._variables,
            query.image,
            maps,
            query.frame_size,
            in_turn=self._in_turn(query, np.arange(count, dtype=np.int32), len(ids)),
        )

        if self._remembers == "box":  # nothing lies outside the user's box
            inside = box_to_map(boxes[np.arange(count) % len(ids)], *query.frame_size)
            margins = jnp.where(inside > 0, margins, NOT_HERE)

        taken = set(self._rows.values())
        before = self._first.size
        rows = max(memory_bank.bucket(len(taken) + len(ids)), before)
        free = [row for row in range(rows) if row not in taken][: len(ids)]
        self._make_room(query, entry, rows)
        place = np.asarray(free + [rows] * (count - len(ids)), np.int32)  # padding is dropped
        self.memory = memory_bank.enter(self.memory, entry, place)
        self._margins = self._margins.at[place].set(margins, mode="drop")
        self._first[free] = query.number
        self._rows.update(zip(ids, free, strict=True))
        self._prompt_boxes.update(zip(ids, boxes, strict=True))

    def remove(self, id: int) -> None:
        """Forgets an object, and with the last one all frames.

        Raises:
          InputError: if there is no object of this id.
        """
        self._row(id)
        del self._rows[id]
        self._prompt_boxes.pop(id, None)
        if not self._rows:
            self.slots.clear()
            self._free()
            return
        rows = memory_bank.bucket(len(self._rows))
        if rows < len(self._first):
            # The bank shrinks to a smaller bucket, padded with copies of row 0.
            kept = np.zeros(rows, np.int32)
            kept[: len(self._rows)] = list(self._rows.values())
            by_row = (self.memory, self._margins, self._boxes)
            self.memory, self._margins, self._boxes = memory_bank.keep(by_row, kept)
            self._first = self._first[kept]
            self._rows = {i: row for row, i in enumerate(self._rows)}
        self.slots.forget(min(int(self._first[row]) for row in self._rows.values()))

    def read(self, number: int, id: int) -> tuple[tuple[int, ...], Memory]:
        """The memory of an object that frame `number` reads; see `Propagator.memory`."""
        row = self._row(id)
        frames = self.slots.frames(number, int(self._first[row]))
        slots = np.asarray(list(frames.values()))
        return tuple(frames), jax.tree.map(lambda x: x[row, slots][None], self.memory)

    def merge(self, query: Query) -> tuple[np.ndarray, np.ndarray, jax.Array | None]:
        """Merges the objects as segmented in the last frame, `query`.

        Returns:
          labels, boxes and probabilities of `FrameResult`; an object that has just entered has the
          box of its prompt.
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
            box[:] = self._prompt_boxes.get(i, box)
        return labels, boxes, probabilities[: len(ids) + 1]

    def _row(self, id: int) -> int:
        if id not in self._rows:
            known = ", ".join(map(str, self.ids)) or "none"
            raise InputError(f"object {id}: there is none; expected one of {known}")
        return self._rows[id]

    def _maps(self, query: Query, entering: Prompts) -> np.ndarray:
        """Maps of the entering objects, float32 `[n, h', w']` at the network's size."""
        height, width = query.image.shape[:2]
        if entering.masks is None or self._remembers == "box":
            small = scale_boxes(entering.boxes, query.frame_size, (height, width))
            return box_to_map(small, height, width)
        masks = entering.masks.astype(np.float32)
        resize = functools.partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
        return np.stack([resize(mask) for mask in masks])

    def _make_room(self, query: Query, entry, rows: int) -> None:
        """Grows the arrays to `rows` rows; a new bank holds memories like `entry`."""
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
        """int32 `[rows]`: the objects' rows by ascending id, then padding."""
        order = np.zeros(self._first.size, np.int32)
        order[: len(self._rows)] = [self._rows[i] for i in self.ids]
        return order

    def _in_turn(
        self, query: Query, rows: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.int32] | None:
        """`in_turn` for `frame_step`: the first `count` of these rows, or None for a batch."""
        large = query.image.shape[0] * query.image.shape[1] >= frame_step.IN_TURN_PIXELS
        return (rows, np.int32(count)) if self._on_cpu and large and len(rows) > 1 else None
