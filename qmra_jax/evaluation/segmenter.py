"""Segments the videos of a dataset, each on one device, with all devices in parallel."""

import concurrent.futures
import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipeline.eval_videos import Entrance, EvalVideo
from qmra_jax import masks
from qmra_jax.background_io import WriteBehind
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.evaluation.results import Timing
from qmra_jax.images import read_image
from qmra_jax.inference.frame_loop import NumberedFrame, Prompt, follow
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.model import QMRA

STARTS = ("box", "mask")


class LabelledFrame(NamedTuple):
    """A segmented frame."""

    number: int  # index in the video
    labels: np.ndarray  # uint8 [h, w]: 0 before the first object, the previous frame's if bad
    seconds: float | None  # `FrameResult.seconds`; None where objects enter
    is_bad: bool  # whether it could not be read


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """Segments one video after another on one device.

    Attributes:
      propagator: on that device.
      start: how objects are given: by "box", the tight box of the mask; or by "mask", of which
        QMRA takes the tight box itself (`Propagator.start`), with the same result.
      skip_bad: an unreadable frame gets the previous mask, without running the network, instead of
        raising an error; except where objects enter, and in the first frame.
    """

    propagator: Propagator
    start: str = "box"
    skip_bad: bool = False

    def frames(self, video: EvalVideo) -> Iterator[LabelledFrame]:
        """Segments a video frame by frame, reading ahead.

        Raises:
          InputError: if a frame or a mask cannot be read or has the wrong size; names the file.
        """
        number, labels = 0, None
        try:
            frames = self._read(video)
            for frame, result in follow(
                self.propagator, frames, skip_bad=self.skip_bad, ahead=True
            ):
                seconds = None
                if result is not None:
                    labels = result.labels
                    seconds = None if number in video.starts else result.seconds
                elif frame.image is not None:
                    labels = np.zeros(frame.image.shape[:2], np.uint8)
                elif labels is None:
                    raise InputError(f"{frame.problem}; it cannot be skipped: no mask precedes it")
                yield LabelledFrame(number, labels, seconds, frame.image is None)
                number += 1
        except InputError as error:
            path = str(video.frames[number])
            raise InputError(str(error) if path in str(error) else f"{path}: {error}") from None

    def __call__(self, video: EvalVideo, folder: Path, tick: Callable[[], Any]) -> Timing:
        """Writes a video's masks, reading and writing in background threads.

        Args:
          video: to segment.
          folder: for the masks.
          tick: called after each frame; an exception from it stops the work.

        Raises:
          InputError: as `frames`.
        """
        began, seconds, carried = time.perf_counter(), [], []
        with WriteBehind() as write:
            for frame in self.frames(video):
                if frame.seconds is not None:
                    seconds.append(frame.seconds)
                if frame.is_bad:
                    carried.append(video.frames[frame.number].name)
                if frame.number in video.written:
                    write(masks.write_labels, folder / video.written[frame.number], frame.labels)
                tick()
        wall = time.perf_counter() - began
        return Timing(len(video.frames), len(seconds), sum(seconds), wall, tuple(carried))

    def _read(self, video: EvalVideo) -> Iterator[tuple[NumberedFrame, Prompt | None]]:
        hint = "" if self.skip_bad else "; or use --skip_bad of evaluate.py to keep the last mask"
        for number, path in enumerate(video.frames):
            try:
                frame = NumberedFrame(number, read_image(path))
            except InputError as error:
                frame = NumberedFrame(number, None, f"frame {number}: {error}{hint}")
            start = video.starts.get(number)
            yield frame, self._prompt(start) if start else None

    def _prompt(self, start: Entrance) -> Prompt:
        objects = start.read()
        drawn = {"masks": objects} if self.start == "mask" else {"boxes": mask_to_box(objects)}
        return {**drawn, "ids": start.ids}


def make_segmenter(
    module: QMRA,
    variables: Mapping[str, Any],
    *,
    start: str = "box",
    skip_bad: bool = False,
    **options: Any,
) -> Callable[[jax.Device], Segmenter]:
    """The `make` of `over_devices`; `options` are `Propagator`'s.

    Raises:
      InputError: immediately, if an option is invalid.
    """
    Propagator(module, variables, **options)

    def make(device: jax.Device) -> Segmenter:
        local = jax.device_put(variables, device)
        return Segmenter(Propagator(module, local, **options), start, skip_bad)

    return make


def over_devices(
    videos: Sequence[EvalVideo],
    make: Callable[[jax.Device], Segmenter],
    work: Callable[[Segmenter, EvalVideo, Callable[[], None]], Any],
    devices: Sequence[jax.Device],
    *,
    tick: Callable[[], Any] = lambda: None,
) -> None:
    """Distributes videos over devices, longest first, each to the next idle device.

    An exception or an interrupt stops all devices at their next frame.

    Args:
      videos: to process.
      make: makes the segmenter of a device; called in that device's thread.
      work: processes one video in its device's thread; calls its last argument after each frame.
      devices: to use.
      tick: called after each frame, by one thread at a time; an exception from it stops all work.

    Raises:
      Exception: the first one from `work` or `tick`.
    """
    waiting: queue.SimpleQueue[EvalVideo] = queue.SimpleQueue()
    for video in longest_first(videos):
        waiting.put(video)
    stop, lock = threading.Event(), threading.Lock()

    def checked_tick() -> None:
        with lock:
            if stop.is_set():
                raise _Stopped
            try:
                tick()
            except BaseException:
                stop.set()  # before another device's turn
                raise

    def serve(device: jax.Device) -> None:
        with jax.default_device(device):
            segmenter = make(device)
            with contextlib.suppress(queue.Empty, _Stopped):
                while not stop.is_set():
                    work(segmenter, waiting.get_nowait(), checked_tick)

    with concurrent.futures.ThreadPoolExecutor(len(devices), "device") as pool:
        futures = [pool.submit(serve, device) for device in devices[: len(videos)]]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            raise


class _Stopped(Exception):
    """An exception on another device stopped this one."""


def longest_first(videos: Sequence[EvalVideo]) -> list[EvalVideo]:
    """Videos by descending length, then by name.

    So no device is left with a long video at the end, and all hosts agree on the order.
    """
    return sorted(videos, key=lambda video: (-len(video.frames), video.name))


def parse_shard(text: str) -> tuple[int, int]:
    """Parses "I/N" into (I, N).

    Raises:
      InputError: if it has another form, or I is not in 1..N.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"shard {text!r}: expected I/N with I from 1 to N, such as 1/4")
    return int(index), int(count)


def shard(videos: Sequence[EvalVideo], index: int, count: int) -> list[EvalVideo]:
    """The videos of shard `index` (from 1) of `count`."""
    return longest_first(videos)[index - 1 :: count]
