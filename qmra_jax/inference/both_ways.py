"""A whole video from boxes drawn in any one of its frames: to its end, then back to its start."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.inference.propagator import FrameResult, Propagator


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
