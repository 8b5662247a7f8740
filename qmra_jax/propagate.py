"""From a box in one frame to a mask in every frame ("Implementation Details", inference).

    propagator = Propagator(module, variables)
    result = propagator.start(frame, boxes)   # the frame the boxes are drawn in
    result = propagator.step(next_frame)      # result.labels, result.boxes

The memory of frame k is frame 0's, every `interval`-th frame's between, and frame k-1's. It lies in
a bank of fixed capacity that doubles when it is full, so that a video of any length compiles a
handful of programs.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from qmra_jax import boxes as box_ops
from qmra_jax.errors import InputError
from qmra_jax.model import QMRA, Memory, foreground
from qmra_jax.variants import lookup

FIRST, PREVIOUS, EXTRA = 0, 1, 2  # slots of the bank: frame 0, frame k-1, and from 2 on the extras
INITIAL_CAPACITY = 4


class FrameResult(NamedTuple):
    """What is known of a frame.

    Attributes:
      labels: uint8 `[h, w]`: 0 background, 1 to n the objects.
      boxes: int32 `[n, 4]`: x, y, width, height of each object by B_q; zeros where it is not seen.
      seconds: of the jitted step until its result was on the host; None where it compiled first.
      probabilities: float32 `[n + 1, h, w]`, background first; on the device until looked at.
    """

    labels: np.ndarray
    boxes: np.ndarray
    seconds: float | None
    probabilities: jax.Array | None = None


def softmax_merge(logits):
    """Softmax over [0, l_1, ..., l_n]: `[n, h, w]` -> `[n + 1, h, w]`, background first."""
    return jax.nn.softmax(jnp.pad(logits, ((1, 0), (0, 0), (0, 0))), axis=0)


def soft_aggregation(logits):
    """STM's merge: p_0 = prod(1 - p_n), then the softmax of all log-odds; shapes as above."""
    p = jax.nn.sigmoid(logits)
    p = jnp.concatenate([jnp.prod(1 - p, axis=0, keepdims=True), p])
    p = jnp.clip(p, 1e-7, 1 - 1e-7)
    return jax.nn.softmax(jnp.log(p / (1 - p)), axis=0)


# Each: foreground minus background logits [n, h, w] -> probabilities [n + 1, h, w].
MERGES: dict[str, Callable] = {"softmax": softmax_merge, "soft_aggregation": soft_aggregation}


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

        Raises:
          InputError: if an option is not one.
        """
        if interval < 1:
            raise InputError(f"interval {interval}: expected at least 1")
        if short_side is not None and short_side < 16:
            raise InputError(f"short side {short_side}: expected at least 16 pixels")
        lookup("merge", MERGES, merge)
        self._variables = jax.device_put(variables)
        self._interval = interval
        self._short_side = short_side
        self._start = functools.partial(_start, module, merge=merge)
        self._step = functools.partial(_step, module, merge=merge)
        self._compiled: set[tuple] = set()
        self._frame_size: tuple[int, int] | None = None

    def start(self, frame: np.ndarray, boxes: np.ndarray) -> FrameResult:
        """Begins with the frame that the boxes are drawn in.

        Args:
          frame: uint8 `[h, w, 3]` RGB.
          boxes: `[n, 4]`: x, y, width, height in pixels of the frame, one an object.

        Returns:
          the result of this frame, whose masks are found within the given boxes.

        Raises:
          InputError: if there is no box, or one is empty or leaves the frame.
        """
        _check_frame(frame)
        height, width = frame.shape[:2]
        if len(boxes) == 0:
            raise InputError("no box: expected at least one object")
        checked = np.stack([box_ops.check_box(box, height, width) for box in boxes])
        self._frame_size = (height, width)
        image = self._to_network(frame)
        small = scale_boxes(checked, self._frame_size, image.shape[:2])
        key = ("start", image.shape, self._frame_size, len(boxes))
        (labels, _), probabilities, entry, seconds = self._timed(
            key, self._start, self._variables, image, small, self._frame_size
        )
        self._memory = _grow(entry, INITIAL_CAPACITY)
        self._extras: list[int] = []  # frame numbers in the slots from EXTRA on
        self._next = 1  # number of the frame to come, counted from this one
        return FrameResult(labels, checked, seconds, probabilities)

    def step(self, frame: np.ndarray) -> FrameResult:
        """Goes on to the next frame.

        Args:
          frame: uint8 `[h, w, 3]` RGB, of the first frame's size.

        Raises:
          InputError: if nothing was started, or the frame's size is another.
        """
        if self._frame_size is None:
            raise InputError("step before start: give the first frame and its boxes to start()")
        _check_frame(frame)
        if frame.shape[:2] != self._frame_size:
            raise InputError(
                f"frame {self._next} is {frame.shape[1]} wide and {frame.shape[0]} high, the first"
                f" one {self._frame_size[1]} and {self._frame_size[0]}: all must be of one size"
            )
        image = self._to_network(frame)
        number, self._next = self._next, self._next + 1
        capacity = self._memory.key1.shape[1]
        valid = np.zeros((1, capacity), bool)
        valid[0, FIRST] = True
        valid[0, PREVIOUS] = number > 1
        for slot, extra in enumerate(self._extras, EXTRA):
            valid[0, slot] = extra < number - 1  # frame k-1 is there already, as the previous one

        slots = np.asarray([PREVIOUS, PREVIOUS], np.int32)
        if number % self._interval == 0:
            slots[1] = EXTRA + len(self._extras)
            self._extras.append(number)
            if slots[1] == capacity:
                self._memory = _grow(self._memory, 2 * capacity)
                valid = np.pad(valid, ((0, 0), (0, capacity)))
        key = ("step", image.shape, self._frame_size, self._memory.key1.shape)
        (labels, small), probabilities, self._memory, seconds = self._timed(
            key, self._step, self._variables, self._memory, valid, slots, image, self._frame_size
        )
        boxes = scale_boxes(small, image.shape[:2], self._frame_size)
        return FrameResult(labels, boxes, seconds, probabilities)

    def _to_network(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        if self._short_side is None or min(height, width) <= self._short_side:
            return frame
        factor = self._short_side / min(height, width)
        size = (round(width * factor), round(height * factor))
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)

    def _timed(self, key: tuple, function: Callable, *args):
        """The function's result on the host, the rest on the device, and the seconds it took."""
        began = time.perf_counter()
        result, probabilities, memory = function(*args)
        result = jax.device_get(result)
        seconds = time.perf_counter() - began
        fresh = key not in self._compiled
        self._compiled.add(key)
        return result, probabilities, memory, None if fresh else seconds


def propagate_video(
    propagator: Propagator, frames: Iterable[np.ndarray], boxes: np.ndarray, *, start: int = 0
) -> Iterator[tuple[int, FrameResult]]:
    """Every frame of a video, from boxes drawn in any one of them.

    Args:
      propagator: with the network.
      frames: uint8 `[h, w, 3]` RGB, in order. Those before `start` are held in memory.
      boxes: `[n, 4]`: x, y, width, height in frame `start`.
      start: the frame with the boxes, from 0.

    Yields:
      (frame number, result): `start` and on to the end, then from `start - 1` back to 0.

    Raises:
      InputError: if the video has no such frame, or as `Propagator.start` and `step`.
    """
    frames = iter(frames)
    earlier = list(itertools.islice(frames, start + 1))
    if len(earlier) <= start:
        raise InputError(f"frame {start}: the video has {len(earlier)} frames, numbered from 0")
    first = earlier.pop()
    yield start, propagator.start(first, boxes)
    for number, frame in enumerate(frames, start + 1):
        yield number, propagator.step(frame)
    if earlier:
        propagator.start(first, boxes)
    for number in reversed(range(start)):
        yield number, propagator.step(earlier[number])


def scale_boxes(boxes: np.ndarray, size: tuple[int, ...], new_size: tuple[int, ...]) -> np.ndarray:
    """Boxes of a frame in the same frame at another size, to the nearest pixel, none lost.

    Args:
      boxes: int `[n, 4]`: x, y, width, height.
      size: (height, width) of the frame that they belong to.
      new_size: (height, width) wanted.

    Returns:
      int32 `[n, 4]`.
    """
    y, x = (new / old for new, old in zip(new_size, size, strict=True))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.round(corners * [x, y, x, y]).astype(np.int32)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    seen = (boxes[:, 2:] > 0).all(axis=1, keepdims=True)
    extent = np.where(seen, np.maximum(extent, 1), 0)  # a thin box stays a pixel wide,
    start = np.minimum(start, np.asarray(new_size[1::-1]) - extent)  # and within the frame
    return np.concatenate([start, extent], axis=1).astype(np.int32)


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f"frame of {frame.dtype} {list(frame.shape)}: expected uint8 [h, w, 3], RGB in 0..255"
        )


@functools.partial(jax.jit, static_argnames=("module", "merge", "frame_size"))
def _start(module, variables, image, boxes, frame_size, *, merge):
    """The first frame: its given boxes stand for B_q, and it is its own memory.

    f_m is asked twice for the same features, of which the compiler makes one.
    """
    maps = box_ops.box_to_map(boxes, *image.shape[:2])[..., None]
    (query, maps), crop = _pad(image, maps)
    memory = module.apply(variables, query, maps, method="memorize")
    located = module.apply(variables, query, memory, method="locate")
    segmented = module.apply(variables, query, maps, memory, located.feature, method="segment")
    probabilities = _probabilities(segmented.refined, crop, frame_size, merge)
    return (_labels(probabilities), boxes), probabilities, segmented.memory


@functools.partial(
    jax.jit, static_argnames=("module", "merge", "frame_size"), donate_argnames=("memory",)
)
def _step(module, variables, memory, valid, slots, image, frame_size, *, merge):
    """A frame: located, segmented, and written into the memory's `slots`."""
    (query,), crop = _pad(image)
    located = module.apply(variables, query, memory, valid, method="locate")
    box = foreground(located.box)
    segmented = module.apply(
        variables, query, box, memory, located.feature, valid, method="segment"
    )
    probabilities = _probabilities(segmented.refined, crop, frame_size, merge)
    boxes = box_ops.map_to_box(box[:, crop[0], crop[1], 0])

    def write(bank, entry):
        for slot in (slots[0], slots[1]):
            bank = jax.lax.dynamic_update_slice_in_dim(bank, entry, slot, axis=1)
        return bank

    memory = jax.tree.map(write, memory, segmented.memory)
    return (_labels(probabilities), boxes), probabilities, memory


def _grow(memory: Memory, capacity: int) -> Memory:
    """The bank with room for `capacity` frames."""
    more = capacity - memory.key1.shape[1]
    return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, more), *[(0, 0)] * 3)), memory)


def _pad(image, *maps):
    """Symmetric zeros to multiples of 16, the smaller half top and left.

    Returns the image as a query `[1, h, w, 3]` in [0, 1] and the maps, and the slices to crop by.
    """
    image = image[None].astype(jnp.float32) / 255
    pads, crop = [(0, 0)], []
    for size in image.shape[1:3]:
        before = -size % 16 // 2
        pads.append((before, -size % 16 - before))
        crop.append(slice(before, before + size))
    pads.append((0, 0))
    return [jnp.pad(x, pads) for x in (image, *maps)], crop


def _labels(probabilities):
    """The likeliest object: `[n + 1, h, w]` -> uint8 `[h, w]`."""
    return jnp.argmax(probabilities, axis=0).astype(jnp.uint8)


def _probabilities(logits, crop, frame_size, merge):
    """Objects merged, at the frame's size: logits `[n, h', w', 2]` -> `[n + 1, h, w]`."""
    margin = logits[..., 1] - logits[..., 0]
    margin = margin[:, crop[0], crop[1]]
    if margin.shape[1:] != frame_size:
        margin = jax.image.resize(margin, (margin.shape[0], *frame_size), "linear")
    return MERGES[merge](margin)
