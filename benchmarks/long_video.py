"""Measures resident memory and the number of compiled programs along a long video.

    python -m benchmarks.long_video                       # 3,000 frames of 1080p, twice
    python -m benchmarks.long_video --frames=300 --max_memory 6 --json=long.json
    python -m benchmarks.long_video --video=cat.mp4 --box=120,80,64,48

The mp4 shows a disc moving over a static background, or a real video played forwards and backwards
repeatedly. It is segmented as by `qmra segment`, with masks, overlay and boxes written, once for
each --max_memory in a process of its own.
"""

import argparse
import concurrent.futures
import functools
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil

from benchmarks.tables import Table, check_least, run_benchmark
from qmra_jax.boxes import scale_boxes
from qmra_jax.cli.options import find_weights
from qmra_jax.errors import InputError
from qmra_jax.segmentation.outputs import Output
from qmra_jax.segmentation.prompt_parsing import read_objects
from qmra_jax.segmentation.segment_video import check_request, segment_video
from qmra_jax.video.reader import VideoReader
from qmra_jax.video.writer import VideoWriter

LOOP = 120  # frames of a real video that are repeated, at most


class Course(NamedTuple):
    """Measurements along a run."""

    resident: list[int]  # bytes of the process's memory after each frame
    programs: list[int]  # compiled since the network was loaded, after each frame
    seconds: list[float]  # of the network, for each frame that compiled nothing
    wall_seconds: float  # overall, compiling and disk included


def made_frames(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Endless frames, uint8 `[h, w, 3]`: a disc circles over smooth noise."""
    height, width = size
    coarse = np.random.default_rng(0).integers(60, 130, (height // 40, width // 40, 3), np.uint8)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for k in itertools.count():
        angle = 2 * np.pi * k / LOOP
        x, y = width / 2 + width / 4 * np.sin(angle), height / 2 - height / 5 * np.cos(angle)
        centre = round(x), round(y)
        yield cv2.circle(ground.copy(), centre, height // 8, (230, 200, 60), cv2.FILLED)


def made_box(size: tuple[int, int]) -> str:
    """The disc's box in the first frame: "x,y,width,height"."""
    height, width = size
    radius = height // 8
    x, y = round(width / 2) - radius, round(height / 2 - height / 5) - radius
    return f"{x},{y},{2 * radius},{2 * radius}"


def looped_frames(video: VideoReader, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The video's first `LOOP` frames forwards and backwards, endlessly: uint8 `[h, w, 3]`."""
    frames = list(itertools.islice(video, LOOP))
    for frame in itertools.cycle(frames + frames[-2:0:-1]):
        yield cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC)


def scaled_box(text: str, size: tuple[int, int], new_size: tuple[int, int]) -> str:
    """Scales a box "x,y,width,height" with its video, between sizes (height, width)."""
    ((objects),) = read_objects(size, [text]).values()
    return ",".join(map(str, scale_boxes(objects.boxes[:1], size, new_size)[0]))


def write_video(path: Path, frames: Iterator[np.ndarray], count: int, fps: int) -> None:
    """Writes the first `count` frames as H.264 in an mp4."""
    tick = Fraction(1, fps)
    with VideoWriter(path, rate=Fraction(fps), time_base=tick) as writer:
        for k, frame in enumerate(itertools.islice(frames, count)):
            writer.write(frame, k * tick, tick)


def follow(
    path: Path, box: str, folder: Path, max_memory: int, short_side: int, weights: Path | None
) -> Course:
    """Segments the video as `qmra segment` does; `max_memory` 0 is no bound."""
    import qmra_jax
    from qmra_jax.runtime.compile_count import compiled_programs

    process = psutil.Process()
    resident: list[int] = []
    programs: list[int] = []
    seconds: list[float] = []

    class Watched(qmra_jax.Propagator):
        """Measures the process after each frame."""

        def start(self, *arguments, **options):
            return watched(super().start(*arguments, **options))

        def step(self, *arguments, **options):
            return watched(super().step(*arguments, **options))

    def watched(result):
        resident.append(process.memory_info().rss)
        programs.append(compiled_programs() - known)
        seconds.extend([result.seconds] if result.seconds is not None else [])
        return result

    module, variables, _ = qmra_jax.load(find_weights(weights))
    propagator = Watched(module, variables, short_side=short_side, max_memory=max_memory)
    known = compiled_programs()
    video, output = VideoReader(path), Output(folder)
    objects = read_objects(video.size, [box])
    check_request(video, objects, output, overwrite=False)
    done = segment_video(video, objects, propagator, output)
    return Course(resident, programs, seconds, done.wall_seconds)


def table(courses: dict[int, Course]) -> Table:
    """A row per bound of the memory (0: none)."""
    rows = []
    for bound, course in courses.items():
        count = len(course.resident)
        quarters = [course.resident[max(count * k // 4 - 1, 0)] / 1e6 for k in (1, 2, 3, 4)]
        sizes = (course.resident[0] / 1e6, *quarters, max(course.resident) / 1e6)
        moments = ("MB at first", "at 1/4", "at 1/2", "at 3/4", "at the end", "at most")
        rows.append(
            {
                "max_memory": bound or "none",
                **dict(zip(moments, map(round, sizes), strict=True)),
                "programs compiled": course.programs[-1],
                "of these by half-way": course.programs[count // 2],
                "network's frames/s": 1 / statistics.median(course.seconds),
                "overall, frames/s": count / course.wall_seconds,
            }
        )
    note = (
        f"Resident memory of the process after a frame, of {count} frames; masks, overlay and"
        " boxes are written. Programs from the cache on disk count too. The network's frames/s are"
        " from the median time to a result on the host; overall includes decoding, compiling and"
        " writing."
    )
    return Table.of("A long video, once for each bound of the memory", rows, note)


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Makes the video and segments it: common facts, and the table."""
    frames = args.seconds * args.fps if args.frames is None else args.frames
    check_least(args, fps=1, height=64, width=64, short_side=0)
    if frames < 4:
        raise InputError(f"--frames={frames}: expected at least 4")
    if bool(args.video) != bool(args.box):
        raise InputError(
            "--video and --box: expected both, the box of an object in its first frame"
        )
    size = args.height, args.width
    with tempfile.TemporaryDirectory() as name:
        path, source, box = Path(name) / "long.mp4", made_frames(size), made_box(size)
        if args.video:
            video = VideoReader(args.video)
            source, box = looped_frames(video, size), scaled_box(args.box, video.size, size)
        write_video(path, source, frames, args.fps)
        courses = {}
        spawn = multiprocessing.get_context("spawn")
        for bound in args.max_memory:
            folder = Path(name) / f"bound{bound}"
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as own:
                arguments = path, box, folder, bound, args.short_side, args.weights
                courses[bound] = own.submit(follow, *arguments).result()
    return {}, [table(courses)]


def _options(add) -> None:
    add("--seconds", type=int, default=600, help="of the video (default: 600)")
    add("--fps", type=int, default=5, help="its frames a second (default: 5)")
    add("--frames", type=int, help="of the video, instead of --seconds")
    add("--height", type=int, default=1080, help="of its frames (default: 1080)")
    add("--width", type=int, default=1920, help="of its frames (default: 1920)")
    add("--video", help="a real video to repeat; needs --box")
    add("--box", metavar="X,Y,WIDTH,HEIGHT", help="of an object in its first frame")
    add(
        "--max_memory",
        type=int,
        nargs="+",
        default=[20, 0],
        help="bounds of the memory; 0: none (default: 20 0)",
    )
    add("--short_side", type=int, default=144, help="of the network's frames (default: 144)")
    add("--weights", type=Path, help="a .safetensors file (default: the checkout's own)")


main = functools.partial(run_benchmark, "long_video", __doc__, _options, measure)

if __name__ == "__main__":
    main()
