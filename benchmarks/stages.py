"""Processor time of each stage of a triplet, on one thread.

Times are the thread's own, so that other load affects them through caches alone.
"""

import cProfile
import pstats
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

STAGES: Mapping[str, tuple[str, ...]] = {
    "read": ("read_bytes", "records.__getitem__"),
    "decode image": ("images.decode_image",),
    "decode mask": ("masks.decode_labels", "targets.instance_masks"),
    "draw": ("triplets.draw",),
    "positions": ("warp.positions",),
    "warp": ("remap", "warp._shrink", "warp.with_cover", "warp.covered"),
    "colour": ("colour.draw_jitter", "colour.colour_matrix", "colour.change_colour"),
}
"""The functions of each stage; times include what they call, and none calls another."""


class Cost(NamedTuple):
    """Processor time of a triplet in milliseconds."""

    whole: float  # measured without the profiler
    stages: dict[str, float]  # of each of `STAGES` and of "other"; their sum is `whole`


def cost(make: Callable[[int], Any], first: int, count: int) -> Cost:
    """Times `make(k)` for `count` examples from `first` on, with and without the profiler."""
    make(first)  # fills caches
    start = time.thread_time()
    for k in range(first, first + count):
        make(k)
    whole = 1000 * (time.thread_time() - start) / count

    profile = cProfile.Profile(timer=time.thread_time)
    profile.enable()
    for k in range(first, first + count):
        make(k)
    profile.disable()
    stats = cast(Any, pstats.Stats(profile))
    times: dict[str, float] = {}
    for function, (_, _, _, inclusive, _) in stats.stats.items():
        for name in _names(*function):
            times[name] = times.get(name, 0.0) + inclusive
    stages = {s: sum(times.get(name, 0.0) for name in names) for s, names in STAGES.items()}
    stages["other"] = stats.total_tt - sum(stages.values())
    # The profiler's own cost is taken off in proportion.
    scale = whole / stats.total_tt
    return Cost(whole, {name: scale * seconds for name, seconds in stages.items()})


def _names(file: str, line: int, function: str) -> tuple[str, str]:
    """A function's names in `STAGES`: with its module, or alone for built-in functions."""
    function = function.strip("<>")
    return f"{Path(file).stem}.{function}", function
