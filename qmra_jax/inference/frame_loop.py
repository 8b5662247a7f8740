"""The loop over a video's frames: objects enter where they are given, all are carried on.

`follow` is the loop of everything that propagates: `propagate_video` here, `qmra segment`,
evaluate.py, validation while training, and `explain_frame`.
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
    """A frame as `follow` takes it.

    Attributes:
      number: in the video.
      image: uint8 `[h, w, 3]` RGB; None where it cannot be read.
      problem: why not, a line that names the frame; None for a sound frame.
    """

    number: int
    image: np.ndarray | None
    problem: str | None = None


F = TypeVar("F", bound=Any)  # a frame with `image` and `problem`
Prompt = Mapping[str, Any]
"""What `Propagator.start` and `step` are told of objects: boxes or masks, and perhaps ids."""


def follow(
    propagator: Propagator,
    frames: Iterable[tuple[F, Prompt | None]],
    *,
    skip_bad: bool = False,
    ahead: bool = False,
) -> Iterator[tuple[F, FrameResult | None]]:
    """Carries objects through frames, in whichever direction these come.

    The propagator is started at the first prompt; objects of later prompts enter beside those that
    there are. A frame's result is handed over before the propagator goes on: until then
    `Propagator.memory`, `add` and `remove` are of this frame.

    Args:
      propagator: with the network.
      frames: each with the prompt of the objects that enter in it, or None. A frame has `image`
        and `problem` as `NumberedFrame` does; it may be of any class.
      skip_bad: the network does not see frames that cannot be read; else they are an error. One in
        which objects enter always is.
      ahead: a thread reads the next frames meanwhile.

    Yields:
      (frame, result), where the result is None before the first prompt and of bad frames.

    Raises:
      InputError: at a bad frame, with its `problem`; or as `Propagator.start` and `step`.
    """
    started = False
    with contextlib.ExitStack() as stack:
        if ahead:
            frames = stack.enter_context(contextlib.closing(read_ahead(frames)))
        for frame, prompt in frames:
            result = None
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

    def results(images: Iterable[np.ndarray], direction: int) -> Iterator[tuple[int, FrameResult]]:
        """Of the frame with the boxes and of those that follow it in a direction."""
        numbered = map(NumberedFrame, itertools.count(start, direction), images)
        prompts = itertools.chain([{"boxes": boxes}], itertools.repeat(None))
        for frame, result in follow(propagator, zip(numbered, prompts, strict=False)):
            assert result is not None  # every frame is sound, and the first has the prompt
            yield frame.number, result

    yield from results(itertools.chain([first], later), 1)
    if start:
        back = again(start) if again else reversed(earlier)
        yield from itertools.islice(results(itertools.chain([first], back), -1), 1, None)
