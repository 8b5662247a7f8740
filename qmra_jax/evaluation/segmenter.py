"""Videos of a dataset segmented: each by one device, all devices at once."""

import concurrent.futures
import dataclasses
import importlib.metadata
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from data_pipeline.eval_videos import Entrance, EvalVideo
from qmra_jax import masks
from qmra_jax.background_io import WriteBehind, read_ahead
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.evaluation.results import Results, Timing, digest
from qmra_jax.images import read_image
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.model import QMRA

STARTS = ("box", "mask")


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """Segments one video after another on one device.

    Attributes:
      propagator: with the network.
      start: what it is told of an object: "box", its mask's tight box; or "mask", from which QMRA
        takes the tight box itself (`Propagator.start`), so that both give the same masks.
      carry: a frame that cannot be read gets the mask of the frame before, and the network does not
        see it; else it is an error. One in which objects enter always is.
    """

    propagator: Propagator
    start: str = "box"
    carry: bool = False

    def __call__(self, video: EvalVideo, folder: Path, tick: Callable[[], Any]) -> Timing:
        """Writes a video's masks, reading ahead and writing behind the network's work.

        Frames before any object have empty masks.

        Args:
          video: to segment.
          folder: for the masks.
          tick: called after each frame; what it raises ends the work.

        Raises:
          InputError: if a frame or a mask cannot be read or does not fit; it names the file.
        """
        began, seconds, carried = time.perf_counter(), [], []
        labels = None
        with WriteBehind() as write:
            for index, image in enumerate(read_ahead(map(_read, video.frames))):
                path, start = video.frames[index], video.starts.get(index)
                if isinstance(image, np.ndarray):
                    labels, step_seconds = self._step(path, image, start, index, video)
                    if step_seconds is not None:
                        seconds.append(step_seconds)
                elif start or labels is None or not self.carry:
                    raise InputError(self._unreadable(image, index, start, labels))
                else:
                    carried.append(path.name)
                if index in video.written:
                    write(masks.write_labels, folder / video.written[index], labels)
                tick()
        wall = time.perf_counter() - began
        return Timing(len(video.frames), len(seconds), sum(seconds), wall, tuple(carried))

    def _step(
        self, path: Path, image: np.ndarray, start: Entrance | None, index: int, video: EvalVideo
    ) -> tuple[np.ndarray, float | None]:
        """A frame's labels, and the step's seconds where they are to be counted."""
        first = min(video.starts)
        if index < first:
            return np.zeros(image.shape[:2], np.uint8), None
        prompt = self._prompt(start) if start else {}
        try:
            go = self.propagator.start if index == first else self.propagator.step
            result = go(image, **prompt)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return result.labels, None if start else result.seconds

    def _prompt(self, start: Entrance) -> dict[str, Any]:
        objects = start.read()
        given = {"masks": objects} if self.start == "mask" else {"boxes": mask_to_box(objects)}
        return {**given, "ids": start.ids}

    def _unreadable(self, error: InputError, index: int, start, labels) -> str:
        if start or labels is None:
            why = "objects enter in it" if start else "no mask precedes it"
            return f"frame {index}: {error}; it cannot be skipped, as {why}"
        return f"frame {index}: {error}; --skip_bad carries the mask before over such frames"


def segment_videos(
    videos: Sequence[EvalVideo],
    results: Results,
    make: Callable[[jax.Device], Segmenter],
    devices: Sequence[jax.Device],
    *,
    tick: Callable[[], Any] = lambda: None,
) -> None:
    """Shares videos out to devices, the longest first, and notes each that is finished.

    An error, or an interrupt, stops all devices at their next frame; finished sequences stay.

    Args:
      videos: to segment.
      results: where to.
      make: gives a device's segmenter; called in that device's thread.
      devices: to work on.
      tick: called after each frame, in one thread at a time.

    Raises:
      InputError: as `Segmenter`.
    """
    waiting: queue.SimpleQueue[EvalVideo] = queue.SimpleQueue()
    for video in longest_first(videos):
        waiting.put(video)
    stop, lock = threading.Event(), threading.Lock()

    def checked_tick() -> None:
        if stop.is_set():
            raise _Stopped
        with lock:
            tick()

    def work(device: jax.Device) -> None:
        with jax.default_device(device):
            segmenter = make(device)
            for video in iter(lambda: _next(waiting), None):
                folder = results.begin(video.name)
                results.finish(video.name, segmenter(video, folder, checked_tick))

    with concurrent.futures.ThreadPoolExecutor(len(devices), "device") as pool:
        futures = [pool.submit(work, device) for device in devices[: len(videos)]]
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
    """What `segment_videos` asks of each device; `options` are `Propagator`'s.

    Raises:
      InputError: at once, if an option is not one: before any result is touched.
    """
    Propagator(module, variables, **options)

    def make(device: jax.Device) -> Segmenter:
        own = jax.device_put(variables, device)
        return Segmenter(Propagator(module, own, **options), start, carry)

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


def _next(waiting: "queue.SimpleQueue[EvalVideo]") -> EvalVideo | None:
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None


def _read(path: Path) -> np.ndarray | InputError:
    try:
        return read_image(path)
    except InputError as error:
        return error
