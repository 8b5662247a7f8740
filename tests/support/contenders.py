"""Stand-ins for the programs that benchmarks time."""

import os

from benchmarks.turns import Contender, Turn


class Counter:
    """A program whose steps cost nothing: each adds 1."""

    def __init__(self, start):
        if start < 0:
            raise ValueError("starts below zero")
        self.value = start
        self.facts = {"process": os.getpid(), "platform": "cpu"}

    def step(self):
        self.value += 1
        return float(self.value)

    def matrix_product(self, n):
        return lambda: None

    def peak_memory(self):
        return 0


def finished(name, seconds, loss=2.0, **facts):
    """A contender after its turns, of one step each."""
    contender = Contender(name, Counter, ())
    contender.turns = [Turn([s], [2 * s], [loss], 100e9) for s in seconds]
    known = {"platform": "cpu", "device": "cpu", "version": "1", "first_value": 2.0}
    sizes = {"start_seconds": 3.0, "peak_rss": 2**30, "peak_device_memory": 0}
    contender.facts = known | sizes | facts
    return contender
