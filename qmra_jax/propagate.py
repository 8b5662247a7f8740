"""From a box in one frame to a mask in every frame ("Implementation Details", inference).

    propagator = Propagator(module, variables)
    result = propagator.start(frame, boxes)        # the frame the boxes are drawn in
    result = propagator.step(next_frame)           # result.labels, result.boxes
    result = propagator.add([[8, 9, 30, 20]])      # one more object, drawn in that last frame
    propagator.remove(1)

Each object is predicted by itself from its own memory (`qmra_jax.bank`); then they are merged
(`qmra_jax.merges`).
"""

import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax import bank, frame_step
from qmra_jax.boxes import scale_boxes
from qmra_jax.errors import InputError
from qmra_jax.merges import MERGES
from qmra_jax.model import QMRA
from qmra_jax.prompts import read_prompts
from qmra_jax.variants import lookup


class FrameResult(NamedTuple):
    """What is known of a frame.

    Attributes:
      labels: uint8 `[h, w]`: 0 background, else the object's id.
      boxes: int32 `[n, 4]`: x, y, width, height of each object by B_q; zeros where it is not seen.
      seconds: of the jitted step until its result was on the host; None where it compiled first.
      probabilities: float32 `[n + 1, h, w]`, background first; on the device until looked at.
      ids: of the n objects, in ascending order, as `boxes` and `probabilities` have them.
    """

    labels: np.ndarray
    boxes: np.ndarray
    seconds: float | None
    probabilities: jax.Array | None = None
    ids: tuple[int, ...] = ()


class Propagator:
    """Carries objects from frame to frame. `start` may be called again, for another video."""

    def __init__(
        self,
        module: QMRA,
        variables,
        *,
        interval: int = 10,
        short_side: int | None = None,
        merge: str = "softmax",
        max_memory: int | None = None,
    ):
        """Prepares; compiles nothing yet.

        Args:
          module: the network, and
          variables: its weights, as `qmra_jax.load` gives them.
          interval: every so many frames one stays in the memory (the paper: 10 for DAVIS, 5 for
            YouTube-VOS).
          short_side: larger frames are shrunk to this many pixels on their shorter side for the
            network; None: never. Labels and boxes are always of the frame's own size.
          merge: a name of `MERGES`.
          max_memory: frames that the memory may hold, which bounds its size for a video of any
            length; past it the extra frames are thinned evenly. None: no bound.

        Raises:
          InputError: if an option is not one.
        """
        if short_side is not None and short_side < 16:
            raise InputError(f"short side {short_side}: expected at least 16 pixels")
        self._new_slots = functools.partial(bank.Slots, interval, max_memory)
        self._slots = self._new_slots()
        self._variables = jax.device_put(variables)
        self._short_side = short_side
        (device,) = jax.tree.leaves(self._variables)[0].devices()
        self._on_cpu = device.platform == "cpu"
        self._track_in = functools.partial(frame_step.track, module)
        self._enter_in = functools.partial(frame_step.enter, module)
        self._merge = functools.partial(
            frame_step.merge_objects, merge=lookup("merge", MERGES, merge)
        )
        self._compiled: set[tuple] = set()
        self._frame_size = (0, 0)  # before start

    def start(
        self,
        frame: np.ndarray,
        boxes=None,
        *,
        masks: np.ndarray | None = None,
        ids: Sequence[int] | None = None,
    ) -> FrameResult:
        """Begins with the frame that the boxes are drawn in.

        Args:
          frame: uint8 `[h, w, 3]` RGB.
          boxes: int `[n, 4]`: x, y, width, height in pixels of the frame, one an object; or else
          masks: uint8 `[h, w]`, a label map whose labels are the objects' ids (255 is void), or
            bool `[n, h, w]`. The network takes a mask's tight box and no more of it: that is what
            "weakly supervised" means.
          ids: of the objects, each 1 to 254; None: 1 to n, or a label map's own.

        Returns:
          the result of this frame, whose masks are found within the given boxes.

        Raises:
          InputError: if there is no object, one is empty or leaves the frame, or an id comes twice.
        """
        _check_frame(frame)
        self._frame_size = (0, 0)  # until all is known to be good
        self._rows: dict[int, int] = {}  # id -> row of the bank
        entering = read_prompts(frame.shape[:2], boxes, masks, ids, ())
        self._frame_size = (frame.shape[0], frame.shape[1])
        self._slots = self._new_slots()
        self._number = 0  # of the last frame, counted from this one
        self._image = self._to_network(frame)
        self._memory: Any = None  # the bank: Memory
        self._margins: Any = None  # float32 [n, h, w], of the last frame
        self._boxes: dict[int, Any] = {}  # id -> int32 [4], of the last frame
        self._first = np.zeros(0, np.int32)  # frame in which each row's object entered
        return self._timed(lambda: self._enter(*entering))

    def step(
        self,
        frame: np.ndarray,
        boxes=None,
        *,
        masks: np.ndarray | None = None,
        ids: Sequence[int] | None = None,
    ) -> FrameResult:
        """Goes on to the next frame.

        Args:
          frame: uint8 `[h, w, 3]` RGB, of the first frame's size.
          boxes: of objects that enter in this frame, if any, as in `start`;
          masks: or their masks; and
          ids: their ids; None: the lowest that are free.

        Raises:
          InputError: if nothing was started, the frame's size is another, or as `start`.
        """
        self._check_started("step")
        _check_frame(frame)
        if frame.shape[:2] != self._frame_size:
            raise InputError(
                f"frame {self._number + 1} is {frame.shape[1]} wide and {frame.shape[0]} high, the"
                f" first one {self._frame_size[1]} and {self._frame_size[0]}: all must be of one"
                " size"
            )
        given = boxes is not None or masks is not None
        entering = read_prompts(frame.shape[:2], boxes, masks, ids, self._rows) if given else None

        def work():
            self._number += 1
            self._image = self._to_network(frame)
            self._track()
            if entering is not None:
                self._enter(*entering)

        return self._timed(work)

    def add(
        self, boxes=None, *, masks: np.ndarray | None = None, ids: Sequence[int] | None = None
    ) -> FrameResult:
        """More objects, drawn in the frame that was given last.

        Args:
          boxes: as in `start`; or
          masks: as in `start`.
          ids: of the objects; None: the lowest that are free, or a label map's own.

        Returns:
          the result of that frame anew, with them.

        Raises:
          InputError: as `start`.
        """
        self._check_started("add")
        entering = read_prompts(self._frame_size, boxes, masks, ids, self._rows)
        return self._timed(lambda: self._enter(*entering))

    def remove(self, id: int) -> None:
        """Forgets an object; its id may come again.

        Raises:
          InputError: if there is no such object.
        """
        self._check_started("remove")
        if id not in self._rows:
            known = ", ".join(map(str, sorted(self._rows))) or "none"
            raise InputError(f"object {id}: there is none of this id; there are {known}")
        del self._rows[id], self._boxes[id]
        rows = bank.bucket(len(self._rows))
        if self._rows and rows < len(self._first):
            # The bank shrinks to the next smaller bucket; row 0 fills it up.
            kept = np.zeros(rows, np.int32)
            kept[: len(self._rows)] = list(self._rows.values())
            self._memory, self._margins = bank.keep((self._memory, self._margins), kept)
            self._first = self._first[kept]
            self._rows = {i: row for row, i in enumerate(self._rows)}

    @property
    def interval(self) -> int:
        """Every so many frames one stays in the memory; may be changed while a video runs."""
        return self._slots.interval

    @interval.setter
    def interval(self, interval: int) -> None:
        self._slots.change_interval(interval)

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects' ids, in ascending order."""
        return tuple(sorted(self._rows))

    def _track(self) -> None:
        """Finds the objects there are in the last frame, and remembers it."""
        valid = self._slots.valid(self._number, self._first)
        slots = np.asarray([bank.PREVIOUS, self._slots.place(self._number)], np.int32)
        if not self._rows:
            return
        rows, capacity = self._first.size, self._slots.capacity
        if capacity > valid.shape[1]:
            self._memory = bank.grow(self._memory, rows, capacity)
            valid = np.pad(valid, ((0, 0), (0, capacity - valid.shape[1])))
        self._fresh("track", rows, capacity)
        self._margins, boxes, self._memory = self._track_in(
            self._variables,
            self._memory,
            valid,
            slots,
            self._image,
            self._frame_size,
            in_turn=self._in_turn,
        )
        self._boxes = {i: (boxes, row) for i, row in self._rows.items()}

    def _enter(self, ids: tuple[int, ...], boxes: np.ndarray) -> None:
        """Finds new objects in the last frame, from their boxes `[n, 4]`, and remembers them."""
        small = scale_boxes(boxes, self._frame_size, self._image.shape[:2])
        count = bank.bucket(len(ids))
        small = np.concatenate([small, np.repeat(small[:1], count - len(ids), axis=0)])
        self._fresh("enter", count)
        margins, entry = self._enter_in(
            self._variables, self._image, small, self._frame_size, in_turn=self._in_turn
        )

        taken = set(self._rows.values())
        rows = bank.bucket(len(taken) + len(ids))
        before = self._first.size
        rows = max(rows, before)
        free = [row for row in range(rows) if row not in taken][: len(ids)]
        if self._memory is None:
            self._memory = bank.empty(entry, rows, self._slots.capacity)
            self._margins = jnp.zeros((rows, *self._frame_size))
        elif rows > before:
            self._memory = bank.grow(self._memory, rows, self._slots.capacity)
            self._margins = jnp.pad(self._margins, ((0, rows - before), (0, 0), (0, 0)))
        place = np.asarray(free + [rows] * (count - len(ids)), np.int32)  # the rest is left out
        self._fresh("place", count, rows, self._slots.capacity)
        self._memory = bank.enter(self._memory, entry, place)
        self._margins = self._margins.at[place].set(margins, mode="drop")
        self._first = np.pad(self._first, (0, rows - before))
        self._first[free] = self._number
        for i, row, box in zip(ids, free, boxes, strict=True):
            self._rows[i], self._boxes[i] = row, box

    def _timed(self, work) -> FrameResult:
        """Does the work and brings the last frame's result to the host."""
        self._compiles = False
        began = time.perf_counter()
        work()
        if not self._rows:
            labels = np.zeros(self._frame_size, np.uint8)
            return FrameResult(labels, np.zeros((0, 4), np.int32), time.perf_counter() - began)
        rows, n = self._first.size, len(self._rows)
        self._fresh("merge", rows)
        order = np.zeros(rows, np.int32)
        order[:n] = [self._rows[i] for i in self.ids]
        table = np.zeros(rows + 1, np.uint8)
        table[1 : n + 1] = self.ids
        labels, probabilities = self._merge(self._margins, order, np.arange(rows) < n, table)
        labels, found = jax.device_get((labels, self._boxes))
        seconds = None if self._compiles else time.perf_counter() - began
        boxes = np.stack([self._on_frame(found[i]) for i in self.ids])
        self._boxes = dict(zip(self.ids, boxes, strict=True))
        return FrameResult(labels, boxes, seconds, probabilities[: n + 1], self.ids)

    @property
    def _in_turn(self) -> bool:
        """Whether objects are tracked one after another, not as a batch."""
        height, width = self._image.shape[:2]
        return self._on_cpu and height * width >= frame_step.IN_TURN_PIXELS

    def _on_frame(self, box) -> np.ndarray:
        """A box in the frame's pixels: as given, or a row of the boxes in the network's pixels."""
        if isinstance(box, tuple):
            boxes, row = box
            box = scale_boxes(boxes[[row]], self._image.shape[:2], self._frame_size)[0]
        return box

    def _fresh(self, *key) -> None:
        """Notes whether a program of this name and these sizes runs for the first time."""
        key = (*key, self._image.shape, self._frame_size)
        self._compiles |= key not in self._compiled
        self._compiled.add(key)

    def _check_started(self, what: str) -> None:
        if self._frame_size == (0, 0):
            raise InputError(f"{what} before start: give the first frame and its boxes to start()")

    def _to_network(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        if self._short_side is None or min(height, width) <= self._short_side:
            return frame
        factor = self._short_side / min(height, width)
        size = (round(width * factor), round(height * factor))
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def propagate_video(
    propagator: Propagator, frames: Iterable[np.ndarray], boxes: np.ndarray, *, start: int = 0
) -> Iterator[tuple[int, FrameResult]]:
    """Every frame of a video, from boxes drawn in any one of them.

    Args:
      propagator: with the network.
      frames: uint8 `[h, w, 3]` RGB, in order. Those before `start` are held in memory, unless
        `frames` has a method `backwards(start)` that gives frames start - 1 to 0 once more.
      boxes: `[n, 4]`: x, y, width, height in frame `start`.
      start: the frame with the boxes, from 0.

    Yields:
      (frame number, result): `start` and on to the end, then from `start - 1` back to 0.

    Raises:
      InputError: if the video has no such frame, or as `Propagator.start` and `step`.
    """
    again = getattr(frames, "backwards", None)
    later = iter(frames)
    earlier = []
    for frame in itertools.islice(later, start):
        earlier.append(None if again else frame)
    first = next(later, None)
    if first is None:
        raise InputError(f"frame {start}: the video has {len(earlier)} frames, numbered from 0")
    yield start, propagator.start(first, boxes)
    for number, frame in enumerate(later, start + 1):
        yield number, propagator.step(frame)
    if start:
        propagator.start(first, boxes)
        back = again(start) if again else reversed(earlier)
        for number, frame in zip(reversed(range(start)), back, strict=True):
            yield number, propagator.step(frame)


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame of {frame.dtype} {list(frame.shape)}: expected uint8 [h, w, 3], RGB in 0..255"
        )
