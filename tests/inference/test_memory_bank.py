"""Which frames the memory keeps, and in which slots."""

import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.inference import memory_bank
from qmra_jax.inference.memory_bank import Slots, bucket


def run(slots, last, first=(0,)):
    """The frames in the slots that frame `last` reads for each object, as a propagator writes."""
    written = {}  # slot -> frame
    for number in range(1, last + 1):
        valid = slots.valid(number, np.asarray(first))
        read = [
            sorted({0: f}.get(s, written.get(s)) for s in np.flatnonzero(row))
            for f, row in zip(first, valid, strict=True)
        ]
        slot = slots.place(number)
        written[1] = written[slot] = number
    return read


def place(slots, *numbers):
    for number in range(*numbers):
        slots.place(number)
    return slots


def test_memory_is_the_first_frame_every_tenth_and_the_previous_one():
    assert run(Slots(10), 35) == [[0, 10, 20, 30, 34]]
    assert run(Slots(10), 31) == [[0, 10, 20, 30]]  # frame 30, also the previous one, once
    assert run(Slots(10), 1) == [[0]]


def test_an_object_reads_no_frame_from_before_it_entered():
    expected = [[0, 3, 6, 9, 10], [4, 6, 9, 10], [6, 9, 10], [10]]
    assert run(Slots(3), 11, first=(0, 4, 6, 10)) == expected


def test_frames_read_are_returned_with_their_slots():
    slots = place(Slots(3), 1, 11)
    assert slots.frames(11, first=0) == {0: 0, 3: 2, 6: 3, 9: 4, 10: 1}
    assert slots.frames(11, first=6) == {6: 0, 9: 4, 10: 1}
    assert slots.frames(11, first=10) == {10: 0}


@pytest.mark.parametrize("most", [2, 3, 5, 8])
def test_max_memory_bounds_the_bank_and_thins_extras_evenly(most):
    slots = Slots(1, max_memory=most)
    for number in range(1, 200):
        assert slots.valid(number, np.zeros(1, int)).sum() <= most
        slots.place(number)
        assert slots.capacity <= most
        assert (np.diff(sorted(slots.extras)) == slots.interval).all()
    assert (most - 2) // 2 <= len(slots.extras) <= most - 2


@pytest.mark.parametrize(("interval", "most"), [(1, None), (3, None), (1, 2), (1, 7), (2, 40)])
def test_predicted_capacities_are_those_that_occur(interval, most):
    for frames in (1, 2, 3, 4, 7, 30, 40):
        slots = Slots(interval, most)
        predicted, seen = slots.capacities(frames), {slots.capacity}
        for number in range(1, frames):  # frame 0 starts the video
            slots.place(number)
            assert 1 + max([1, *slots.extras.values()]) <= slots.capacity
            seen.add(slots.capacity)
        assert predicted == sorted(seen)
    assert slots.capacities(None)[-1] == (most or 4)
    assert Slots(1).capacities(40) == [4, 8, 16, 32, 64]


def test_slots_from_before_the_oldest_object_are_reused():
    slots = place(Slots(1), 1, 7)
    slots.forget(5)
    assert list(slots.extras) == [6]
    assert slots.valid(8, np.array([5]))[0].nonzero()[0].tolist() == [0, 1, slots.extras[6]]
    assert slots.place(7) == 2
    assert slots.capacity == 8


def test_clear_restores_the_requested_interval():
    slots = place(Slots(1, max_memory=3), 1, 20)
    slots.change_interval(2)
    place(slots, 20, 40).clear()
    assert (slots.interval, slots.capacity, slots.extras) == (2, 3, {})


def test_buckets_are_few_and_pad_by_at_most_half():
    sizes = [bucket(n) for n in range(1, 255)]
    assert all(n <= size <= 1.5 * n for n, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]


def test_max_memory_without_extra_frames_is_two():
    assert memory_bank.bound(None, False) == memory_bank.bound(2, False) == 2
    assert memory_bank.bound(9, True) == 9
    with pytest.raises(InputError, match="max_memory 9"):
        memory_bank.bound(9, False)


def test_growing_frees_each_old_array_once_its_copy_is_made(monkeypatch):
    old = {name: jnp.full((2, 3, 4, 4, 1), i) for i, name in enumerate("abc")}
    left, pad = [], memory_bank._pad

    def counted(*arguments):
        left.append(sum(not x.is_deleted() for x in old.values()))
        return pad(*arguments)

    monkeypatch.setattr(memory_bank, "_pad", counted)
    new = memory_bank.grow(old, 3, 6)
    assert left == [3, 2, 1]
    assert all(x.is_deleted() for x in old.values())
    for i, x in enumerate(new.values()):
        assert x.shape == (3, 6, 4, 4, 1)
        assert (x[:2, :3] == i).all()
        assert not x[2:].any()
