"""From a video and boxes to files: masks, an overlay, tables, cut-outs (`outputs`).

The objects of the earliest frame are followed both ways, those that enter later from their frame
on. First come the frames before that earliest one, backwards, and their masks are kept on disk;
then one pass over the video in order feeds every writer.
"""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from qmra_jax.masks import read_labels, write_labels
from qmra_jax.segmentation import outputs
from qmra_jax.segmentation.outputs import Output, SegmentedVideo
from qmra_jax.segmentation.result_writer import FrameObjects, ResultWriter
from qmra_jax.video.reader import Frame, VideoReader

_WAITING = 4  # frames that may wait to be written


def check_request(
    video: VideoReader,
    objects: Mapping[int, Prompts],
    output: Output,
    kinds: Sequence[str] = outputs.DEFAULT,
    *,
    overwrite: bool,
    skip_bad: bool = False,
) -> None:
    """Finds out whether the objects can be followed and the result be kept; writes nothing yet.

    Args:
      video: to be segmented.
      objects: frame -> what was drawn in it (`qmra_jax.segmentation.prompt_parsing`).
      output: where the result is to go.
      kinds: of files to write, of `outputs.WRITERS`.
      overwrite: whether an earlier result there may be replaced.
      skip_bad: whether frames may be absent at the end.

    Raises:
      InputError: if there is no such frame, or it cannot be decoded, the output folder holds
        anything while `overwrite` is not set, what is read would be replaced, or the video was cut
        off and `skip_bad` is not set.
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
                f"{video.path} would be replaced by its own result in {folder}: give another output"
            )
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(
            f"output {folder} is not empty: give another folder, or --overwrite to replace an"
            " earlier result there"
        )
    if video.missing and not skip_bad:
        raise InputError(
            f"video {video.path} was cut off: it lacks {video.missing} of the frames that its"
            " header tells of; get it again, or take what is there (--skip-bad)"
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
    """Follows the objects through the video and writes the files.

    An earlier result in the same folder is removed first (what `outputs` names, nothing else).
    Reading and writing go on beside the network, and memory does not grow with the video's length
    but by a box for each frame.

    Args:
      video: to be segmented.
      objects: as `check_request` takes them.
      propagator: with the network.
      output: where to write.
      kinds: of files, of `outputs.WRITERS`.
      skip_bad: a frame that cannot be decoded carries the last mask, and the network never sees it.
      progress: shows a bar on standard error.

    Raises:
      InputError: if a frame cannot be decoded, naming it, unless `skip_bad` is set. What was found
        before it is kept.
    """
    began = time.perf_counter()
    for kind in outputs.WRITERS:
        with contextlib.suppress(InputError):  # one that cannot be written here left nothing here
            outputs.make_writers([kind], output.folder, video)[0].remove()
    writers = outputs.make_writers(kinds, output.folder, video)
    make_folder(output.folder)
    bar = tqdm(total=video.count, desc="segment", unit="frame", disable=not progress)
    seconds: list[float] = []
    problem: InputError | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        spool = output.masks
        if "masks" not in kinds:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=output.folder)))
        for writer in writers:
            stack.enter_context(writer)
        results = _Results(video, writers, spool)
        frames = stack.enter_context(
            contextlib.closing(_follow_both_ways(video, objects, propagator, skip_bad))
        )
        with WriteBehind(_WAITING) as behind:
            try:
                for frame, result, early in frames:
                    if result is not None and result.seconds is not None:
                        seconds.append(result.seconds)
                    behind(results.keep if early else results.write, frame, result)
                    bar.update(early or frame.number >= min(objects))
            except InputError as error:
                problem = error  # so that what waits is still written
        if problem:
            raise InputError(f"{problem}; what was found until then is in {output.folder}")
    return SegmentedVideo(
        output,
        tuple(writer.path for writer in writers),
        len(results.boxes),
        results.boxes,
        time.perf_counter() - began,
        len(seconds) / sum(seconds) if seconds else None,
        tuple(results.skipped),
        video.missing,
    )


def _follow_both_ways(
    video: VideoReader, objects: Mapping[int, Prompts], propagator: Propagator, skip_bad: bool
) -> Iterator[tuple[Frame, FrameResult | None, bool]]:
    """(frame, its result, whether it comes before its turn).

    The frames before the first with objects come twice: backwards with their results, then in
    their turn without. A frame that cannot be decoded has no result.

    Raises:
      InputError: at such a frame, unless `skip_bad` is set.
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
    """What was found, handed to the writers in order; lives in the writing thread."""

    def __init__(self, video: VideoReader, writers: Sequence[ResultWriter], spool: Path):
        self._writers, self._spool = writers, spool
        self._scored = any(writer.scored for writer in writers)
        self._last = FrameObjects(np.zeros(video.size, np.uint8), np.zeros((0, 4), np.int32))
        self._image = np.zeros((*video.size, 3), np.uint8)  # the last one
        self._early: dict[int, FrameObjects] = {}  # without labels, which lie in the spool
        self.boxes: dict[int, np.ndarray] = {}
        self.skipped: list[int] = []

    def keep(self, frame: Frame, result: FrameResult | None) -> None:
        """A frame before the first one with objects: it is written later, in its turn."""
        shown = self._shown(result)
        write_labels(self._path(frame), shown.labels)
        self._early[frame.number] = shown._replace(labels=np.zeros((0, 0), np.uint8))

    def write(self, frame: Frame, result: FrameResult | None) -> None:
        """The next frame; no result for one that was kept, or that cannot be decoded."""
        early = self._early.pop(frame.number, None)
        if early is None:
            shown = self._shown(result)
        else:
            shown = early._replace(labels=read_labels(self._path(frame)))
        if frame.image is None:
            self.skipped.append(frame.number)
        else:
            self._image = frame.image
        self.boxes[frame.number] = shown.boxes
        for writer in self._writers:
            writer.write(frame._replace(image=self._image), shown)

    def _path(self, frame: Frame) -> Path:
        return self._spool / f"{frame.number:05d}.png"

    def _shown(self, result: FrameResult | None) -> FrameObjects:
        if result is not None:
            scores = score(result) if self._scored else ()
            self._last = FrameObjects(result.labels, np.asarray(result.boxes), result.ids, scores)
        return self._last


def score(result: FrameResult) -> tuple[float, ...]:
    """How sure the network is of each object: its mean probability over its mask, in [0, 1].

    Args:
      result: of a frame.

    Returns:
      one for each of its ids; 0 where the object is not seen.
    """
    if not result.ids:
        return ()
    probabilities = np.asarray(result.probabilities)
    scores = []
    for row, id in enumerate(result.ids, start=1):
        seen = probabilities[row][result.labels == id]
        scores.append(float(seen.mean()) if seen.size else 0.0)
    return tuple(scores)
