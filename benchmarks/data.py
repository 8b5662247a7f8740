"""Measures the data pipeline: triplets per second, cost of each stage, memory, restarts.

    python -m benchmarks.data                                    # about three minutes
    python -m benchmarks.data --batches=5000 --json=data.json    # also whether memory grows
    python -m benchmarks.data --batches=5000 --seconds=0         # memory alone
    python -m benchmarks.data --loader=processes                 # without TensorFlow

Sources are synthetic files (`made_files`), raw and as TFRecords, synthetic videos, and datasets
below $QMRA_DATA, if any. Frames are augmented as in `configs/common.py`, with colour jitter, and go
through `data_pipeline.triplets.stream` as in training.
"""

import argparse
import contextlib
import functools
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
from ml_collections import ConfigDict

from benchmarks import made_files
from benchmarks.stages import STAGES, cost
from benchmarks.tables import Table, check_least, run_benchmark
from configs import common
from data_pipeline.build import build
from data_pipeline.triplets.examples import open_examples
from data_pipeline.triplets.stream import LOADERS, open_stream
from qmra_jax.errors import InputError

REAL_STATIC, REAL_VIDEOS = "static/ecssd", "davis2016"  # below $QMRA_DATA, if present
WINDOWS = 5  # per source, in turn, so that all see the same load
MEMORY_BATCH, MEMORY_CROP = 4, 64  # small, so that thousands of batches take minutes
LATE = 100_000  # the step of a late restart
RESTARTS = 3  # per source and step


def make_sources(folder: Path, real: Path | None, *, stills: int, videos: int, frames: int) -> dict:
    """The sources to measure: name -> `root`, `static`, `videos`, `video_share` of a config."""
    made_files.make_stills(folder / "stills", stills)
    made_files.make_videos(folder / "videos", videos, frames)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        build("image_masks", folder / "stills", data_dir=folder)
        build("davis2016", folder / "videos", data_dir=folder)
    made = f"made, {made_files.kilobytes(folder / 'stills'):.0f} kB a still 400x300"
    made_video = f"made, {made_files.kilobytes(folder / 'videos'):.0f} kB a frame 854x480"
    sources = {
        f"static: files ({made})": _source(folder, ["stills"]),
        "static: TFRecords of them": _source(folder, ["image_masks"]),
        f"video: files ({made_video})": _source(folder, [], ["videos:train"]),
        "video: TFRecords of them": _source(folder, [], ["davis2016:train"]),
        "half static, half video: files": _source(folder, ["stills"], ["videos:train"]),
        "video: synthetic": _source(folder, [], ["synthetic"]),
    }
    if real and (real / REAL_STATIC).is_dir():
        sources[f"static: {REAL_STATIC} (long side 320)"] = _source(real, [REAL_STATIC])
    if real and (real / REAL_VIDEOS).is_dir():
        sources[f"video: {REAL_VIDEOS} (576x324)"] = _source(real, [], [f"{REAL_VIDEOS}:train"])
    return sources


def _source(root: Path, static: Sequence[str], videos: Sequence[str] = ()) -> dict:
    share = (0.5 if static else 1.0) if videos else 0.0
    return {
        "root": str(root),
        "static": tuple(static),
        "videos": tuple(videos),
        "video_share": ((0, share),),
    }


def settings(source: Mapping, *, crop: int, workers: int, loader: str = "tf.data") -> ConfigDict:
    """`config.data` for one of the sources."""
    data = common.get_config().data
    data.update(source)
    data.update(crop=crop, workers=workers, colour_jitter=0.2, loader=loader)
    return data


def _busy() -> float:
    """Processor seconds of this process and its children."""
    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(times.user + times.system for times in children)


def speed(
    sources: Mapping[str, ConfigDict], batch: int, seconds: float
) -> tuple[Table, dict[str, float]]:
    """Triplets per second of each source, and processor milliseconds per triplet by name."""
    rates: dict[str, list[float]] = {name: [] for name in sources}
    costs: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(WINDOWS):
        for name, data in sources.items():
            with contextlib.closing(open_stream(data, seed=0, global_batch=batch)) as running:
                for _ in range(data.prefetch + 2):  # warm-up
                    next(running)
                busy, start, done = _busy(), time.perf_counter(), 0
                while not done or time.perf_counter() - start < seconds / WINDOWS:
                    next(running)
                    done += batch
                rates[name].append(done / (time.perf_counter() - start))
                costs[name].append(1000 * (_busy() - busy) / done)
    middle = {name: statistics.median(values) for name, values in costs.items()}
    rows = [
        (name, *(f(rates[name]) for f in (statistics.median, min, max)), middle[name])
        for name in sources
    ]
    columns = ("source", "triplets/s", "slowest window", "fastest window", "CPU ms/triplet")
    note = f"Batches of {batch}; median of {WINDOWS} windows of {seconds / WINDOWS:g} s, in turn."
    return Table("Triplets a second, through the whole stream", columns, rows, note), middle


def stages(sources: Mapping[str, ConfigDict], in_stream: Mapping[str, float], count: int) -> Table:
    """Processor milliseconds of each stage of a triplet."""
    rows = []
    for name, data in sources.items():
        costs = cost(open_examples(data, seed=0, global_batch=1), 0, count)
        rows.append((name, *costs.stages.values(), costs.whole, in_stream[name] - costs.whole))
    columns = ("source", *STAGES, "other", "triplet", "the stream")
    note = (
        f"CPU ms, mean of {count} triplets on one thread. 'positions': where the crop samples;"
        " 'warp': sampling of images and masks; 'other': for synthetic videos, drawing the frames;"
        " 'the stream': what parallel reading, prefetching and batching add."
    )
    return Table("What a triplet costs, by stage", columns, rows, note)


def memory(data: ConfigDict, count: int) -> Table:
    """Resident memory along `count` batches, and how it grows over the second half."""
    process = psutil.Process()
    every = max(1, count // 100)
    steps, sizes = [], []
    with contextlib.closing(open_stream(data, seed=0, global_batch=MEMORY_BATCH)) as stream:
        for step, _ in enumerate(itertools.islice(stream, count + 1)):
            if step % every == 0:
                steps.append(step)
                running = [process, *process.children()]
                sizes.append(sum(each.memory_info().rss for each in running) / 1e6)
    late = len(steps) // 2
    slope = 1000 * float(np.polyfit(steps[late:], sizes[late:], 1)[0])
    sizes_at = ("at first, MB", "half-way, MB", "at the end, MB")
    columns = ("batches", *sizes_at, "growth, MB/1000 batches")
    note = (
        f"Half static, half video, batches of {MEMORY_BATCH} at {MEMORY_CROP}x{MEMORY_CROP}; growth"
        " is the slope of a line through the second half. The start includes TensorFlow and earlier"
        " measurements; memory that processes share counts for each."
    )
    row = (steps[-1], sizes[0], sizes[late], sizes[-1], slope)
    return Table("Resident memory", columns, [row], note)


def restart(sources: Mapping[str, ConfigDict], batch: int) -> Table:
    """Seconds from a config to the first batch, at step 0 and at a late one."""
    rows = []
    for name, data in sources.items():
        taken: dict[int, list[float]] = {0: [], LATE: []}
        for _, step in itertools.product(range(RESTARTS), taken):
            start = time.perf_counter()
            options = {"seed": 0, "global_batch": batch, "start_step": step}
            with contextlib.closing(open_stream(data, **options)) as stream:
                next(stream)
                taken[step].append(time.perf_counter() - start)
        rows.append((name, *(statistics.median(taken[step]) for step in taken)))
    columns = ("source", "from step 0, s", f"from step {LATE:,}, s")
    return Table("To the first batch", columns, rows, "Includes listing and checking the files.")


def _options(add) -> None:
    add("--seconds", type=float, default=10.0, help="per source (default: 10); 0: memory only")
    add("--crop", type=int, default=384, help="side of the frames (default: %(default)s)")
    add("--batch", type=int, default=16, help="triplets per batch (default: %(default)s)")
    add("--loader", choices=LOADERS, default="tf.data", help="as data.loader (default: tf.data)")
    add("--workers", type=int, default=0, help="as data.workers; 0: one per core (default)")
    add("--data", default=os.environ.get("QMRA_DATA", ""), help="real sets (default: $QMRA_DATA)")
    add("--batches", type=int, default=0, help="of the memory test; 0: none (default)")
    add("--stills", type=int, default=60, help="images to make (default: %(default)s)")
    add("--videos", type=int, default=4, help="videos to make (default: %(default)s)")
    add("--frames", type=int, default=made_files.FRAMES, help="per video (default: %(default)s)")


def measure(args: argparse.Namespace) -> tuple[dict[str, str], list[Table]]:
    """Makes the sources and measures them: common facts, and the tables."""
    check_least(args, seconds=0, stills=1, videos=1, frames=3)
    if args.data and not Path(args.data).is_dir():
        raise InputError(f"--data={args.data}: no such folder")
    with tempfile.TemporaryDirectory() as folder:
        counts = {"stills": args.stills, "videos": args.videos, "frames": args.frames}
        made = make_sources(Path(folder), Path(args.data) if args.data else None, **counts)
        how = {"workers": args.workers, "loader": args.loader}
        sources = {name: settings(s, crop=args.crop, **how) for name, s in made.items()}
        tables = []
        if args.seconds:
            speeds, in_stream = speed(sources, args.batch, args.seconds)
            tables += [speeds, stages(sources, in_stream, max(4, int(20 * args.seconds)))]
            tables += [restart(sources, args.batch)]
        if args.batches:
            mixed = next(s for s in made.values() if s["static"] and s["videos"])
            small = settings(mixed, crop=MEMORY_CROP, **how)
            tables.append(memory(small, args.batches))
    return {"loader": args.loader, "crop": f"{args.crop}x{args.crop}"}, tables


main = functools.partial(run_benchmark, "data", __doc__, _options, measure)

if __name__ == "__main__":
    main()
