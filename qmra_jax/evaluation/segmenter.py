"""Videos of a dataset segmented: each by one device, all devices at once."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from data_pipeline.eval_videos import Entrance, EvalVideo
from qmra_jax import masks
from qmra_jax.background_io import WriteBehind
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.evaluation.results import Timing, digest
from qmra_jax.images import read_image
from qmra_jax.inference.frame_loop import NumberedFrame, Prompt, follow
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.model import QMRA

STARTS = ("box", "mask")


class LabelledFrame(NamedTuple):
    """A frame of a video that was run over.

    Attributes:
      number: of the frame, from 0.
      labels: uint8 `[h, w]`: empty before any object, those of the frame before where it is bad.
      seconds: of the network's step, as `FrameResult.seconds`; None where objects entered too.
      is_bad: whether it could not be read.
    """

    number: int
    labels: np.ndarray
    seconds: float | None
    is_bad: bool


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """Segments one video after another on one device.

    Attributes:
      propagator: with the network.
      start: what it is told of an object: "box", its mask's tight box; or "mask", from which QMRA
        takes the tight box itself (`Propagator.start`), so that both give the same masks.
      carry: a frame that cannot be read gets the mask of the frame before, and the network does not
        see it; else it is an error. One in which objects enter, or the first one, always is.
    """

    propagator: Propagator
    start: str = "box"
    carry: bool = False

    def frames(self, video: EvalVideo) -> Iterator[LabelledFrame]:
        """Runs over a video, reading ahead.

        Raises:
          InputError: if a frame or a mask cannot be read or does not fit; it names the file.
        """
        labels, index = None, 0
        try:
            frames = self._read(video)
            for frame, result in follow(self.propagator, frames, skip_bad=self.carry, ahead=True):
                index, seconds = frame.number, None
                if result is not None:
                    labels = result.labels
                    seconds = None if index in video.starts else result.seconds
                elif frame.image is not None:
                    labels = np.zeros(frame.image.shape[:2], np.uint8)
                elif labels is None:
                    raise InputError(f"{frame.problem}; it cannot be skipped: no mask precedes it")
                index += 1
                yield LabelledFrame(frame.number, labels, seconds, frame.image is None)
        except InputError as error:
            path = str(video.frames[min(index, len(video.frames) - 1)])
            raise InputError(str(error) if path in str(error) else f"{path}: {error}") from None

    def __call__(self, video: EvalVideo, folder: Path, tick: Callable[[], Any]) -> Timing:
        """Writes a video's masks, reading ahead and writing behind the network's work.

        Args:
          video: to segment.
          folder: for the masks.
          tick: called after each frame; what it raises ends the work.

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
        hint = "" if self.carry else "; evaluate.py --skip_bad carries the mask before over it"
        for index, path in enumerate(video.frames):
            try:
                frame = NumberedFrame(index, read_image(path))
            except InputError as error:
                frame = NumberedFrame(index, None, f"frame {index}: {error}{hint}")
            start = video.starts.get(index)
            yield frame, self._prompt(start) if start else None

    def _prompt(self, start: Entrance) -> Prompt:
        objects = start.read()
        given = {"masks": objects} if self.start == "mask" else {"boxes": mask_to_box(objects)}
        return {**given, "ids": start.ids}


def over_devices(
    videos: Sequence[EvalVideo],
    make: Callable[[jax.Device], Segmenter],
    work: Callable[[Segmenter, EvalVideo, Callable[[], None]], Any],
    devices: Sequence[jax.Device],
    *,
    tick: Callable[[], Any] = lambda: None,
) -> None:
    """Shares videos out to devices, the longest first, each to the next that is idle.

    An error, or an interrupt, stops all devices at their next frame.

    Args:
      videos: to work on.
      make: gives a device's segmenter; called in that device's thread.
      work: does a video's work, in its device's thread, and calls its last argument after each
        frame.
      devices: to work on.
      tick: called after each frame, in one thread at a time; what it raises ends all work.

    Raises:
      whatever `work` or `tick` raises.
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
                    video = waiting.get_nowait()
                    work(segmenter, video, checked_tick)

    with concurrent.futures.ThreadPoolExecutor(len(devices), "device") as pool:
        futures = [pool.submit(serve, device) for device in devices[: len(videos)]]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            raise


def make_segmenter(
    module: QMRA,
    variables: Mapping[str, Any],
    *,
    start: str = "box",
    carry: bool = False,
    **options: Any,
) -> Callable[[jax.Device], Segmenter]:
    """What `over_devices` asks of each device; `options` are `Propagator`'s.

    Raises:
      InputError: at once, if an option is not one: before any result is touched.
    """
    Propagator(module, variables, **options)

    def make(device: jax.Device) -> Segmenter:
        local = jax.device_put(variables, device)
        return Segmenter(Propagator(module, local, **options), start, carry)

    return make


def longest_first(videos: Sequence[EvalVideo]) -> list[EvalVideo]:
    """By the number of frames, then by name: so that no device is left with a long one at the end,
    and every host of a sharded run finds the same order."""
    return sorted(videos, key=lambda video: (-len(video.frames), video.name))


def parse_shard(text: str) -> tuple[int, int]:
    """I and N of "I/N".

    Raises:
      InputError: if it has another form, or I is not from 1 to N.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"shard {text!r}: expected I/N, such as 1/4, with I from 1 to N")
    return int(index), int(count)


def shard(videos: Sequence[EvalVideo], index: int, count: int) -> list[EvalVideo]:
    """The part of the videos that host `index` (from 1) of `count` is to make."""
    return longest_first(videos)[index - 1 :: count]


def model_digest(module: QMRA, variables: Mapping[str, Any]) -> str:
    """Stands for a network and its weights, wherever they came from."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = ((name, np.asarray(flat[name]).tobytes()) for name in sorted(flat))
    return digest(repr(module), *(part for pair in arrays for part in pair))


def package_version() -> str | None:
    """Of qmra-jax; None where it runs out of a checkout that was never installed."""
    try:
        return importlib.metadata.version("qmra-jax")
    except importlib.metadata.PackageNotFoundError:
        return None


class _Stopped(Exception):
    """Another device met an error."""
