"""Streaming inference: from a box in one frame to masks in the frames that follow.

    propagator = Propagator(module, variables)
    result = propagator.start(frame, boxes)        # the frame in which the boxes are drawn
    result = propagator.step(next_frame)           # result.labels, result.boxes
    result = propagator.add([[8, 9, 30, 20]])      # one more object, drawn in that last frame
    propagator.remove(1)

See the paper's "Implementation Details". Each object is predicted independently from its own memory
(`object_tracks`, `memory_bank`); then the objects are merged (`object_merging`).
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from qmra_jax.errors import InputError, whole_number
from qmra_jax.images import size_text
from qmra_jax.inference import memory_bank
from qmra_jax.inference.object_merging import MERGES
from qmra_jax.inference.object_tracks import Query, Tracks
from qmra_jax.inference.prompts import MAX_OBJECTS, read_prompts
from qmra_jax.inference.warmup import rehearse
from qmra_jax.network.model import QMRA
from qmra_jax.network.structures import Memory
from qmra_jax.network.variants import lookup
from qmra_jax.runtime.compile_count import compiled_programs


class FrameResult(NamedTuple):
    """The result of one frame.

    Attributes:
      labels: uint8 `[h, w]`: 0 background, else the object's id.
      boxes: int32 `[n, 4]`: x, y, width, height of each object by B_q; zeros if it is not visible.
      seconds: time of the network until labels and boxes are on the host; None if a program was
        compiled meanwhile, or if there are no objects.
      probabilities: float32 `[n + 1, h, w]`, background first, left on the device.
      ids: of the n objects, ascending: the order of `boxes` and `probabilities`.
    """

    labels: np.ndarray
    boxes: np.ndarray
    seconds: float | None
    probabilities: jax.Array | None = None
    ids: tuple[int, ...] = ()


class Propagator:
    """Propagates objects from frame to frame. Call `start` again for another video.

    Attributes:
      short_side: shorter side of the network's input in pixels; 0: the frame's own.
      enlarge: whether smaller frames are enlarged to it.
      to_query: resizes a frame for the network: (number, frame) -> `Query`.
    """

    def __init__(
        self,
        module: QMRA,
        variables,
        *,
        interval: int | None = None,
        short_side: int | None = None,
        enlarge: bool | None = None,
        merge: str = "softmax",
        max_memory: int | None = None,
        extra_frames: bool = True,
    ):
        """Compiles nothing yet.

        Args:
          module: the network, with its
          variables: as returned by `qmra_jax.load`.
          interval: every `interval`-th frame stays in the memory (the paper: 10 for DAVIS, 5 for
            YouTube-VOS). None for this, `short_side`, `enlarge` or `max_memory`: as in
            `module.inference`, the settings stored with the weights.
          short_side: frames are resized to this many pixels on their shorter side for the network;
            0: never. Labels and boxes always have the size of the original frame.
          enlarge: whether frames smaller than `short_side` are resized too.
          merge: a name of `MERGES`.
          max_memory: maximum number of memory frames, for a bounded memory on videos of any length.
            Beyond it the extra frames are thinned evenly, for all objects alike: one that enters
            late has few extras at first. 0: unbounded.
          extra_frames: whether to keep extra frames; otherwise the memory is an object's first
            frame and the previous one (Table 3's "w/o EF"), as with `max_memory=2`.

        Raises:
          InputError: if an option is invalid.
        """
        short_side, enlarge, interval, default = module.inference.updated(
            short_side=short_side, enlarge=enlarge, interval=interval
        )
        if short_side != 0:
            short_side = whole_number(short_side, "short_side", 16, " pixels, or 0")
        self._tracks = Tracks(
            module,
            variables,
            merge=lookup("merge", MERGES, merge),
            interval=interval,
            max_memory=memory_bank.bound(max_memory, extra_frames, default) or None,
        )
        self.short_side, self.enlarge = short_side, enlarge
        # (number, frame) -> the frame at the network's size.
        self.to_query = functools.partial(Query.of, short_side=short_side, enlarge=enlarge)
        self._query: Query | None = None  # the last frame; None before start

    def prepare(
        self, frame_size: tuple[int, int], *, objects: int = 1, frames: int | None = None
    ) -> int:
        """Compiles in advance, so that no frame of a live stream has to wait; optional.

        Otherwise each new number of objects, and each growth of the memory, compiles when it first
        occurs. Does not disturb a running video.

        Args:
          frame_size: (height, width) of the frames to come.
          objects: maximum number of objects at a time.
          frames: maximum length of the stream; None: any length if `max_memory` is set, otherwise
            as many frames as fit before the memory first grows.

        Returns:
          The number of programs compiled.

        Raises:
          InputError: unless all are positive whole numbers, with at most 254 objects.
        """
        height, width = frame_size
        size = whole_number(height, "height", 1), whole_number(width, "width", 1)
        if whole_number(objects, "objects", 1) > MAX_OBJECTS:
            raise InputError(f"objects {objects}: expected at most {MAX_OBJECTS}")
        if frames is not None:
            frames = whole_number(frames, "frames", 1)
        compiled = compiled_programs()
        query = self.to_query(1, np.zeros((*size, 3), np.uint8))
        rehearse(self._tracks, query, objects, self._tracks.slots.capacities(frames))
        return compiled_programs() - compiled

    def start(
        self,
        frame: np.ndarray,
        boxes=None,
        *,
        masks: np.ndarray | None = None,
        ids: Sequence[int] | None = None,
    ) -> FrameResult:
        """Starts a video with the frame in which the objects are drawn.

        Args:
          frame: uint8 `[h, w, 3]` RGB.
          boxes: int `[n, 4]`: x, y, width, height in pixels of the frame, one per object.
          masks: instead of boxes: uint8 `[h, w]`, a label map whose labels are the objects' ids
            (255 is void), or one object's mask of only 0 and 255; or bool `[n, h, w]`, or `[h, w]`
            of one object. QMRA uses only a mask's tight box ("weakly supervised"); a network that
            `remembers` masks (STM) uses all of it.
          ids: of the objects, each 1 to 254; None: the lowest free ones, or a label map's labels.

        Returns:
          The result of this frame, whose masks lie within the given boxes.

        Raises:
          InputError: if there are no objects, one is empty or leaves the frame, or an id occurs
            twice. A running video is then left as it was.
        """
        _check_frame(frame)
        entering = read_prompts(frame.shape[:2], boxes, masks, ids, ())
        # All input is valid: a running video ends here.
        self._tracks.clear()
        query = self._query = self.to_query(0, frame)
        return self._timed(query, lambda: self._tracks.enter(query, entering))

    def step(
        self,
        frame: np.ndarray,
        boxes=None,
        *,
        masks: np.ndarray | None = None,
        ids: Sequence[int] | None = None,
    ) -> FrameResult:
        """Advances to the next frame.

        Args:
          frame: uint8 `[h, w, 3]` RGB, of the first frame's size.
          boxes: as in `start`, like `masks` and `ids`, of objects that enter in this frame, if any.

        Raises:
          InputError: before `start`, if the frame has another size, or as `start`.
        """
        number, _, frame_size = self._last("step")
        _check_frame(frame)
        if frame.shape[:2] != frame_size:
            raise InputError(
                f"frame {number + 1} is {size_text(frame.shape)}, the first one"
                f" {size_text(frame_size)}: expected one size"
            )
        enters = boxes is not None or masks is not None
        entering = read_prompts(frame_size, boxes, masks, ids, self.ids) if enters else None
        query = self._query = self.to_query(number + 1, frame)

        def work() -> None:
            self._tracks.track(query)
            if entering:
                self._tracks.enter(query, entering)

        return self._timed(query, work)

    def add(
        self, boxes=None, *, masks: np.ndarray | None = None, ids: Sequence[int] | None = None
    ) -> FrameResult:
        """Adds objects drawn in the last frame, as in `start`, and returns its updated result.

        Raises:
          InputError: before `start`, or as `start`.
        """
        query = self._last("add")
        entering = read_prompts(query.frame_size, boxes, masks, ids, self.ids)
        return self._timed(query, lambda: self._tracks.enter(query, entering))

    def remove(self, id: int) -> None:
        """Stops tracking an object; its id may be used again.

        Raises:
          InputError: if there is no object of this id.
        """
        self._last("remove")
        self._tracks.remove(id)

    def memory(self, id: int) -> tuple[tuple[int, ...], Memory]:
        """A copy of the memory that the next frame will read of an object.

        Returns:
          (numbers, memory): the t memory frames' numbers, ascending, 0 for the frame of `start`;
          and their keys and values, each `[1, t, H, W, c]`, in that order.

        Raises:
          InputError: if there is no object of this id.
        """
        return self._tracks.read(self._last("memory").number + 1, id)

    @property
    def interval(self) -> int:
        """Every `interval`-th frame stays in the memory; may be set while a video runs."""
        return self._tracks.slots.interval

    @interval.setter
    def interval(self, interval: int) -> None:
        self._tracks.slots.change_interval(interval)

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending."""
        return self._tracks.ids

    def _last(self, method: str) -> Query:
        if self._query is None:
            raise InputError(f"{method}() before start(): start with a frame and its boxes")
        return self._query

    def _timed(self, query: Query, work: Callable[[], None]) -> FrameResult:
        """Runs `work` and merges the objects; times both."""
        compiled = compiled_programs()
        began = time.perf_counter()
        work()
        labels, boxes, probabilities = self._tracks.merge(query)
        seconds = time.perf_counter() - began
        timed = self.ids and compiled_programs() == compiled
        return FrameResult(labels, boxes, seconds if timed else None, probabilities, self.ids)


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame of {frame.dtype} {list(frame.shape)}: expected uint8 [h, w, 3], RGB in 0..255"
        )
