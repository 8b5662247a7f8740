"""What each stage of a triplet costs in processor time, on one thread.

The clock is the thread's own, which stands still while others use the core: the figures do not
depend on what else the machine is doing, but for its caches.
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
"""Stages by the functions that make them up, with all that these call; none calls another."""


class Cost(NamedTuple):
    """Processor time of a triplet.

    Attributes:
      whole: milliseconds, measured without the profiler.
      stages: milliseconds of each of `STAGES`, and of the rest, "other"; together `whole`.
    """

    whole: float
    stages: dict[str, float]


def cost(make: Callable[[int], Any], first: int, count: int) -> Cost:
    """Makes examples twice, plainly and under the profiler.

    Args:
      make: of example k, as `data_pipeline.triplets.examples.Examples`.
      first: example to make.
      count: how many.
    """
    make(first)  # what is computed once
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
    # The profiler slows down small functions most; what it adds is taken off in proportion.
    scale = whole / stats.total_tt
    return Cost(whole, {name: scale * seconds for name, seconds in stages.items()})


def _names(file: str, line: int, function: str) -> tuple[str, str]:
    """What `STAGES` may call it: by module and name, or by name alone, as built-in functions."""
    function = function.strip("<>")
    return f"{Path(file).stem}.{function}", function
