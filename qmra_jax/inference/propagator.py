"""From a box in one frame to a mask in every frame ("Implementation Details", inference).

    propagator = Propagator(module, variables)
    result = propagator.start(frame, boxes)        # the frame the boxes are drawn in
    result = propagator.step(next_frame)           # result.labels, result.boxes
    result = propagator.add([[8, 9, 30, 20]])      # one more object, drawn in that last frame
    propagator.remove(1)

Each object is predicted by itself from its own memory (`object_tracks`, `memory_bank`); then they
are merged (`object_merging`).
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from qmra_jax.errors import InputError, whole_number
from qmra_jax.inference import memory_bank
from qmra_jax.inference.object_merging import MERGES
from qmra_jax.inference.object_tracks import Query, Tracks
from qmra_jax.inference.prompts import MOST, read_prompts
from qmra_jax.inference.warmup import rehearse
from qmra_jax.network.model import QMRA, Memory
from qmra_jax.network.variants import lookup
from qmra_jax.runtime.compile_count import compiled_programs


class FrameResult(NamedTuple):
    """What is known of a frame.

    Attributes:
      labels: uint8 `[h, w]`: 0 background, else the object's id.
      boxes: int32 `[n, 4]`: x, y, width, height of each object by B_q; zeros where it is not seen.
      seconds: the network took until its result was on the host; None where a program had to be
        compiled first, and where there is no object.
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
        extra_frames: bool = True,
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
            length; past it the extra frames are thinned evenly, for all objects alike: one that
            enters late has few of its own at first. None: no bound.
          extra_frames: whether frames stay at all; else the memory is an object's first frame and
            the previous one (Table 3's "w/o EF"), which is a `max_memory` of 2.

        Raises:
          InputError: if an option is not one.
        """
        if short_side is not None:
            short_side = whole_number(short_side, "short side", 16, " pixels")
        self._tracks = Tracks(
            module,
            variables,
            merge=lookup("merge", MERGES, merge),
            interval=interval,
            max_memory=memory_bank.bound(max_memory, extra_frames),
        )
        self._short_side = short_side
        self._query: Query | None = None  # the last frame; None before start

    def prepare(
        self, frame_size: tuple[int, int], *, objects: int = 1, frames: int | None = None
    ) -> int:
        """Compiles beforehand, so that no frame of a live stream waits for it; optional.

        A new number of objects, or a memory that grows, is otherwise compiled when it is first met.
        A video that is running goes on.

        Args:
          frame_size: (height, width) of the frames to come.
          objects: that there may be at a time, entering and leaving in any way.
          frames: that the stream may have while there are objects; None: any number if there is a
            `max_memory`, else as many as fit before the memory first grows.

        Returns:
          how many programs were compiled.

        Raises:
          InputError: if one of these is no whole number from 1 on, or there are too many objects.
        """
        try:
            height, width = frame_size
        except (TypeError, ValueError):
            raise InputError(f"frame size {frame_size!r}: expected (height, width)") from None
        size = whole_number(height, "height", 1), whole_number(width, "width", 1)
        if whole_number(objects, "objects", 1) > MOST:
            raise InputError(f"{objects} objects: expected at most {MOST} at a time")
        if frames is not None:
            frames = whole_number(frames, "frames", 1)
        known = compiled_programs()
        query = Query.of(1, np.zeros((*size, 3), np.uint8), self._short_side)
        rehearse(self._tracks, query, objects, self._tracks.slots.capacities(frames))
        return compiled_programs() - known

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
            one object's mask of 0 and 255 alone; or bool `[n, h, w]`, or `[h, w]` of one object.
            The network takes a mask's tight box and no more of it: that is what "weakly
            supervised" means. One that `remembers` masks (STM) takes the whole.
          ids: of the objects, each 1 to 254; None: 1 to n, or a label map's own.

        Returns:
          the result of this frame, whose masks are found within the given boxes.

        Raises:
          InputError: if there is no object, one is empty or leaves the frame, or an id comes twice.
            A video that was running goes on.
        """
        _check_frame(frame)
        entering = read_prompts(frame.shape[:2], boxes, masks, ids, ())
        # All is known to be good: a video that was running ends here.
        self._tracks.clear()
        query = self._query = Query.of(0, frame, self._short_side)
        return self._timed(query, lambda: self._tracks.enter(query, entering))

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
        number, _, frame_size = self._last("step")
        _check_frame(frame)
        if frame.shape[:2] != frame_size:
            raise InputError(
                f"frame {number + 1} is {frame.shape[1]} wide and {frame.shape[0]} high, the first"
                f" one {frame_size[1]} and {frame_size[0]}: all must be of one size"
            )
        given = boxes is not None or masks is not None
        entering = read_prompts(frame_size, boxes, masks, ids, self.ids) if given else None
        query = self._query = Query.of(number + 1, frame, self._short_side)

        def work() -> None:
            self._tracks.track(query)
            if entering:
                self._tracks.enter(query, entering)

        return self._timed(query, work)

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
        query = self._last("add")
        entering = read_prompts(query.frame_size, boxes, masks, ids, self.ids)
        return self._timed(query, lambda: self._tracks.enter(query, entering))

    def remove(self, id: int) -> None:
        """Forgets an object; its id may come again.

        Raises:
          InputError: if there is no such object.
        """
        self._last("remove")
        self._tracks.remove(id)

    def memory(self, id: int) -> tuple[tuple[int, ...], Memory]:
        """What the next frame will read of an object: a copy.

        Returns:
          the memory frames' numbers, ascending, counted from the frame of `start`; and their keys
          and values, each `[1, t, H, W, c]`, in that order.

        Raises:
          InputError: if there is no such object.
        """
        return self._tracks.read(self._last("memory").number + 1, id)

    @property
    def interval(self) -> int:
        """Every so many frames one stays in the memory; may be changed while a video runs."""
        return self._tracks.slots.interval

    @interval.setter
    def interval(self, interval: int) -> None:
        self._tracks.slots.change_interval(interval)

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects' ids, in ascending order."""
        return self._tracks.ids

    def _last(self, what: str) -> Query:
        if self._query is None:
            raise InputError(f"{what} before start: give the first frame and its boxes to start()")
        return self._query

    def _timed(self, query: Query, work: Callable[[], None]) -> FrameResult:
        """Does the work on a frame and brings its result to the host."""
        known = compiled_programs()
        began = time.perf_counter()
        work()
        labels, boxes, probabilities = self._tracks.merge(query)
        took = time.perf_counter() - began
        seconds = took if self.ids and compiled_programs() == known else None
        return FrameResult(labels, boxes, seconds, probabilities, self.ids)


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame of {frame.dtype} {list(frame.shape)}: expected uint8 [h, w, 3], RGB in 0..255"
        )
