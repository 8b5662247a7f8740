"""The loop over a video's frames, from which everything that propagates masks is built.

`follow` serves `propagate_video`, `qmra segment`, evaluate.py, validation during training, and
`explain_frame`.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from qmra_jax.background_io import read_ahead
from qmra_jax.errors import InputError
from qmra_jax.inference.propagator import FrameResult, Propagator


class NumberedFrame(NamedTuple):
    """A video frame."""

    number: int  # index in the video
    image: np.ndarray | None  # uint8 [h, w, 3] RGB; None if it cannot be read
    problem: str | None = None  # why not, as an error message that names the frame


F = TypeVar("F", bound=Any)  # a frame with `image` and `problem`
Prompt = Mapping[str, Any]
"""Keyword arguments of `Propagator.start` and `step`: boxes or masks, and perhaps ids."""


def follow(
    propagator: Propagator,
    frames: Iterable[tuple[F, Prompt | None]],
    *,
    skip_bad: bool = False,
    ahead: bool = False,
) -> Iterator[tuple[F, FrameResult | None]]:
    """Propagates objects through frames, in the order given.

    The objects of later prompts join those already tracked. Each result is yielded before the next
    frame is processed, so the caller may use `Propagator.memory`, `add` and `remove` on the current
    frame.

    Args:
      propagator: restarted at the first prompt.
      frames: pairs of a frame (`NumberedFrame`, or any class with `image` and `problem`) and the
        prompt of the objects that enter in it, or None.
      skip_bad: skip unreadable frames instead of raising, except where objects enter.
      ahead: read the next frames in a background thread.

    Yields:
      (frame, result); the result is None before the first prompt and for skipped frames.

    Raises:
      InputError: the `problem` of an unreadable frame, or as `Propagator.start` and `step`.
    """
    started = False
    with contextlib.ExitStack() as stack:
        if ahead:
            frames = stack.enter_context(contextlib.closing(read_ahead(frames)))
        for frame, prompt in frames:
            result: FrameResult | None = None
            if frame.image is None:
                if not skip_bad:
                    raise InputError(frame.problem)
                if prompt:
                    raise InputError(f"{frame.problem}; it cannot be skipped: objects enter in it")
            elif started or prompt:
                advance = propagator.step if started else propagator.start
                result = advance(frame.image, **(prompt or {}))
                started = True
            yield frame, result


def propagate_video(
    propagator: Propagator, frames: Iterable[np.ndarray], boxes: np.ndarray, *, start: int = 0
) -> Iterator[tuple[int, FrameResult]]:
    """Propagates boxes drawn in one frame of a video to all its frames.

    Args:
      propagator: restarted here.
      frames: uint8 `[h, w, 3]` RGB, in order. Frames before `start` are held in memory, unless
        `frames` has a method `backwards(start)` that yields frames start - 1 to 0 again.
      boxes: `[n, 4]`: x, y, width, height in frame `start`.
      start: index of the frame with the boxes.

    Yields:
      (frame number, result), from `start` to the end, then from `start - 1` down to 0.

    Raises:
      InputError: if there is no frame `start`, or as `Propagator.start` and `step`.
    """
    backwards = getattr(frames, "backwards", None)
    later = iter(frames)
    earlier = [None if backwards else frame for frame in itertools.islice(later, start)]
    first = next(later, None)
    if first is None:
        raise InputError(f"frame {start}: the video has {len(earlier)} frames, numbered from 0")

    def results(images: Iterable[np.ndarray], direction: int) -> Iterator[tuple[int, FrameResult]]:
        numbered = map(NumberedFrame, itertools.count(start, direction), images)
        prompts = itertools.chain([{"boxes": boxes}], itertools.repeat(None))
        for frame, result in follow(propagator, zip(numbered, prompts, strict=False)):
            assert result is not None  # all frames are readable, and the first has the prompt
            yield frame.number, result

    yield from results(itertools.chain([first], later), 1)
    if start:
        before = backwards(start) if backwards else reversed(earlier)
        yield from itertools.islice(results(itertools.chain([first], before), -1), 1, None)
