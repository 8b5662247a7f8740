"""Segments a video and writes the results: masks, an overlay, tables, cut-outs (`outputs`).

The objects of the earliest prompt are propagated in both directions, later ones forwards only. The
frames before the earliest prompt are processed first, backwards, with their masks kept on disk;
then one pass over the video in order feeds every writer.
"""

import collections
import contextlib
import itertools
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qmra_jax.background_io import WriteBehind
from qmra_jax.errors import InputError
from qmra_jax.files import make_folder
from qmra_jax.inference.frame_loop import follow
from qmra_jax.inference.prompts import Prompts
from qmra_jax.inference.propagator import FrameResult, Propagator
from qmra_jax.masks import objects_in, read_labels, write_labels
from qmra_jax.segmentation import outputs
from qmra_jax.segmentation.outputs import Output, SegmentedVideo
from qmra_jax.segmentation.result_writer import FrameObjects, ResultWriter
from qmra_jax.video.reader import Frame, VideoReader

_MAX_PENDING = 4  # frames waiting to be written


def check_request(
    video: VideoReader,
    objects: Mapping[int, Prompts],
    output: Output,
    kinds: Sequence[str] = outputs.DEFAULT,
    *,
    overwrite: bool,
    skip_bad: bool = False,
) -> None:
    """Checks the arguments of `segment_video` before the network is loaded; writes nothing.

    Args:
      overwrite: whether an earlier result may be replaced.
      skip_bad: whether a truncated file is acceptable.

    Raises:
      InputError: if a frame with objects does not exist or cannot be decoded, the output folder is
        not empty and `overwrite` is not set, the video itself would be overwritten, or it is
        truncated and `skip_bad` is not set.
    """
    folder = output.folder
    outputs.make_writers(kinds, folder, video)
    for number in sorted(objects, reverse=True):
        video.frame(number)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file: expected a folder, or a new name")
    results = [output.path(kind).resolve() for kind in outputs.WRITERS]
    for source in {path.resolve() for path in (video.path, *video.sources)}:
        if source in results or source.parent in results:
            raise InputError(
                f"{video.path} would be replaced by its own result in {folder}: choose another"
                " output"
            )
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(
            f"output {folder} is not empty: choose another folder, or --overwrite to replace an"
            " earlier result"
        )
    if video.missing and not skip_bad:
        raise InputError(
            f"video {video.path} was cut off: {video.missing} of the frames in its header are"
            " missing; replace the file, or segment what is there (--skip-bad)"
        )


def segment_video(
    video: VideoReader,
    objects: Mapping[int, Prompts],
    propagator: Propagator,
    output: Output,
    kinds: Sequence[str] = outputs.DEFAULT,
    *,
    skip_bad: bool = False,
    progress: bool = True,
) -> SegmentedVideo:
    """Propagates the objects through the video and writes the files.

    Removes an earlier result in the folder first (the files of `outputs`, nothing else). Reads and
    writes in background threads; memory is independent of the video's length, but for the boxes.

    Args:
      objects: frame number -> objects drawn in it (`qmra_jax.segmentation.prompt_parsing`).
      kinds: of files to write, keys of `outputs.WRITERS`.
      skip_bad: give a frame that cannot be decoded the previous mask, without running the network.
      progress: show a progress bar on standard error.

    Raises:
      InputError: if a frame cannot be decoded and `skip_bad` is not set. The results of the frames
        before it are kept.
    """
    began = time.perf_counter()
    for writer_class in outputs.WRITERS.values():
        writer_class.remove(output.folder)
    writers = outputs.make_writers(kinds, output.folder, video)
    make_folder(output.folder)
    bar = tqdm(total=video.count, desc="segment", unit="frame", disable=not progress)
    seconds: list[float] = []
    failure: InputError | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        spool = output.masks
        if "masks" not in kinds:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=output.folder)))
        for writer in writers:
            stack.enter_context(writer)
        results = _Results(video, writers, spool)
        frames = stack.enter_context(
            contextlib.closing(_propagate(video, objects, propagator, skip_bad))
        )
        with WriteBehind(_MAX_PENDING) as behind:
            try:
                for frame, result, early in frames:
                    if result is not None and result.seconds is not None:
                        seconds.append(result.seconds)
                    behind(results.keep if early else results.write, frame, result)
                    bar.update(early or frame.number >= min(objects))
            except InputError as error:
                failure = error  # raised once the pending frames are written
        if failure:
            raise InputError(f"{failure}; results up to that frame are in {output.folder}")
    return SegmentedVideo(
        output,
        tuple(writer.path for writer in writers),
        len(results.boxes),
        results.boxes,
        results.visible,
        time.perf_counter() - began,
        len(seconds) / sum(seconds) if seconds else None,
        tuple(results.skipped),
        video.missing,
    )


def _propagate(
    video: VideoReader, objects: Mapping[int, Prompts], propagator: Propagator, skip_bad: bool
) -> Generator[tuple[Frame, FrameResult | None, bool]]:
    """Yields (frame, result, early): first backwards from the earliest prompt, then in order.

    The frames before the earliest prompt come twice: early, with their results, and in order,
    without. Skipped frames have no result.

    Raises:
      InputError: at a frame that cannot be decoded, unless `skip_bad` is set.
    """

    def run(frames: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult | None]]:
        prompted = ((f, o.arguments() if (o := objects.get(f.number)) else None) for f in frames)
        return follow(propagator, prompted, skip_bad=skip_bad, ahead=True)

    start = min(objects)
    if start:
        first = Frame(start, Fraction(0), Fraction(0), video.frame(start))
        results = run(itertools.chain([first], video.frames_backwards(start)))
        yield from ((frame, result, True) for frame, result in itertools.islice(results, 1, None))
    yield from ((frame, result, False) for frame, result in run(video.frames()))


class _Results:
    """Passes results to the writers in order; used by the writing thread."""

    def __init__(self, video: VideoReader, writers: Sequence[ResultWriter], spool: Path):
        self._writers, self._spool = writers, spool
        self._scored = any(writer.scored for writer in writers)
        self._last = FrameObjects(np.zeros(video.size, np.uint8), np.zeros((0, 4), np.int32))
        self._last_image = np.zeros((*video.size, 3), np.uint8)
        self._early: dict[int, FrameObjects] = {}  # without labels, which are in the spool
        self.boxes: dict[int, np.ndarray] = {}
        self.visible: collections.Counter[int] = collections.Counter()
        self.skipped: list[int] = []

    def keep(self, frame: Frame, result: FrameResult | None) -> None:
        """Keeps the result of an early frame, to be written in order later."""
        objects = self._objects(result)
        write_labels(self._path(frame), objects.labels)
        self._early[frame.number] = objects._replace(labels=np.zeros((0, 0), np.uint8))

    def write(self, frame: Frame, result: FrameResult | None) -> None:
        """Writes the next frame; its result is None if it was kept or skipped."""
        early = self._early.pop(frame.number, None)
        if early is None:
            objects = self._objects(result)
        else:
            objects = early._replace(labels=read_labels(self._path(frame)))
        if frame.image is None:
            self.skipped.append(frame.number)
        else:
            self._last_image = frame.image
        self.boxes[frame.number] = objects.boxes
        self.visible.update(dict.fromkeys(objects.ids, 0))
        self.visible.update(objects_in(objects.labels))
        for writer in self._writers:
            writer.write(frame._replace(image=self._last_image), objects)

    def _path(self, frame: Frame) -> Path:
        return self._spool / f"{frame.number:05d}.png"

    def _objects(self, result: FrameResult | None) -> FrameObjects:
        if result is not None:
            scores = score(result) if self._scored else ()
            self._last = FrameObjects(result.labels, np.asarray(result.boxes), result.ids, scores)
        return self._last


def score(result: FrameResult) -> tuple[float, ...]:
    """The mean probability of each object over its mask, in [0, 1]; 0 if it is not visible."""
    if not result.ids:
        return ()
    probabilities = np.asarray(result.probabilities)
    scores = []
    for row, id in enumerate(result.ids, start=1):
        inside = probabilities[row][result.labels == id]
        scores.append(float(inside.mean()) if inside.size else 0.0)
    return tuple(scores)
