"""Every program that a stream may need, run once beforehand, so that no frame waits for one.

What is compiled depends on the frames' size, on how many objects there are and enter
(`memory_bank.bucket`), and on the bank's capacity. A rehearsal lets objects enter and leave in all
these sizes. It goes through `Tracks` as a stream does, so that it meets what a stream meets; the
network itself runs but once for each of its sizes.
"""

import copy
import itertools
from collections.abc import Sequence

import numpy as np

from qmra_jax.inference import memory_bank
from qmra_jax.inference.memory_bank import bucket
from qmra_jax.inference.object_tracks import Query, Tracks
from qmra_jax.inference.prompts import Prompts


def rehearse(tracks: Tracks, query: Query, objects: int, capacities: Sequence[int]) -> None:
    """Compiles what tracking needs; the tracks themselves stay as they are.

    Args:
      tracks: whose programs to compile.
      query: a frame of the right size, number 1; what it shows does not matter.
      objects: at most so many at a time.
      capacities: of the bank, in ascending order.
    """
    stage = _stage(tracks)
    known = set()
    for capacity, larger in zip(capacities, [*capacities[1:], None], strict=True):
        for there, both in itertools.combinations(range(objects + 1), 2):
            # How many there are matters beyond their bucket in what `merge` returns, which does
            # not depend on the capacity.
            count = both if capacity == capacities[0] else bucket(both)
            sizes = capacity, there and bucket(there), bucket(both - there), count
            if sizes in known:
                continue
            known.add(sizes)
            for is_tracked in (False, True):
                _empty(stage, capacity)
                for ids in (range(1, there + 1), range(there + 1, both + 1)):
                    _enter(stage, query, ids)
                    if is_tracked:
                        stage.track(query)
                    stage.merge(query)
                stage.remove(both)
                stage.merge(query)
            if larger and not there:
                _empty(stage, capacity)
                _enter(stage, query, range(1, both + 1))
                memory_bank.grow(stage.memory, bucket(both), larger)
    stage.clear()


def _empty(stage: Tracks, capacity: int) -> None:
    stage.clear()
    stage.slots.capacity = capacity


def _enter(stage: Tracks, query: Query, ids: Sequence[int]) -> None:
    if ids:
        height, width = query.frame_size
        boxes = np.tile(np.int32([0, 0, width, height]), (len(ids), 1))
        stage.enter(query, Prompts(tuple(ids), boxes))


def _stage(tracks: Tracks) -> Tracks:
    """Tracks of the same network that run it once for each size and then repeat its answer."""
    stage = copy.copy(tracks)
    entered: dict = {}  # by the number of objects
    tracked: dict = {}  # by rows and capacity

    def enter(variables, image, given, *arguments, **options):
        if len(given) not in entered:
            entered[len(given)] = tracks._enter(variables, image, given, *arguments, **options)
        return entered[len(given)]

    def track(variables, memory, valid, *arguments, **options):
        if valid.shape not in tracked:
            *answer, memory = tracks._track(variables, memory, valid, *arguments, **options)
            tracked[valid.shape] = answer
        return (*tracked[valid.shape], memory)

    stage._enter, stage._track = enter, track
    return stage
