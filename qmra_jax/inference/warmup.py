"""Compiles every program that a stream may need, before its frames arrive.

What is compiled depends on the frame size, on how many objects exist and enter
(`memory_bank.bucket`), and on the bank's capacity. A rehearsal lets objects enter and leave in all
these sizes, through `Tracks` as a stream does; the network itself runs only once per size.
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
    """Compiles what `tracks` will need, without changing their state.

    Args:
      tracks: to compile for.
      query: a frame of the right size, number 1; its content does not matter.
      objects: maximum number of objects at a time.
      capacities: of the bank, ascending.
    """
    replica = _replica(tracks)
    rehearsed = set()
    for capacity, larger in zip(capacities, [*capacities[1:], None], strict=True):
        for before, after in itertools.combinations(range(objects + 1), 2):
            # `merge` depends on the exact number of objects, but not on the capacity.
            count = after if capacity == capacities[0] else bucket(after)
            sizes = capacity, before and bucket(before), bucket(after - before), count
            if sizes in rehearsed:
                continue
            rehearsed.add(sizes)
            for is_tracked in (False, True):
                _empty(replica, capacity)
                for ids in (range(1, before + 1), range(before + 1, after + 1)):
                    _enter(replica, query, ids)
                    if is_tracked:
                        replica.track(query)
                    replica.merge(query)
                replica.remove(after)
                replica.merge(query)
            if larger and not before:
                _empty(replica, capacity)
                _enter(replica, query, range(1, after + 1))
                memory_bank.grow(replica.memory, bucket(after), larger)
    replica.clear()


def _empty(replica: Tracks, capacity: int) -> None:
    replica.clear()
    replica.slots.capacity = capacity


def _enter(replica: Tracks, query: Query, ids: Sequence[int]) -> None:
    if ids:
        height, width = query.frame_size
        boxes = np.asarray([[0, 0, width, height]] * len(ids), np.int32)
        replica.enter(query, Prompts(tuple(ids), boxes))


def _replica(tracks: Tracks) -> Tracks:
    """Tracks with the same network, which runs once per size and then repeats its answer."""
    replica = copy.copy(tracks)
    entered: dict = {}  # by the number of objects
    tracked: dict = {}  # by rows and capacity

    def enter(variables, image, maps, *arguments, **options):
        if len(maps) not in entered:
            entered[len(maps)] = tracks._enter(variables, image, maps, *arguments, **options)
        return entered[len(maps)]

    def track(variables, memory, valid, *arguments, **options):
        if valid.shape not in tracked:
            *answer, memory = tracks._track(variables, memory, valid, *arguments, **options)
            tracked[valid.shape] = answer
        return (*tracked[valid.shape], memory)

    replica._enter, replica._track = enter, track
    return replica
