"""Which frames the memory keeps, and where."""

import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.inference import memory_bank
from qmra_jax.inference.memory_bank import Slots, bucket


def run(slots, last, first=(0,)):
    """The frames that frame `last` reads for each object, as a propagator would ask."""
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


def test_the_memory_is_the_first_frame_every_tenth_and_the_previous_one():
    assert run(Slots(10), 35) == [[0, 10, 20, 30, 34]]
    assert run(Slots(10), 31) == [[0, 10, 20, 30]]  # frame 30 is the previous one, once
    assert run(Slots(10), 1) == [[0]]


def test_an_object_reads_no_frame_from_before_it_entered():
    assert run(Slots(3), 11, first=(0, 4, 6, 10)) == [
        [0, 3, 6, 9, 10],
        [4, 6, 9, 10],
        [6, 9, 10],
        [10],
    ]


def test_the_frames_that_are_read_are_named_with_their_slots():
    slots = Slots(3)
    for number in range(1, 11):
        slots.place(number)
    assert slots.frames(11, first=0) == {0: 0, 3: 2, 6: 3, 9: 4, 10: 1}
    assert slots.frames(11, first=6) == {6: 0, 9: 4, 10: 1}
    assert slots.frames(11, first=10) == {10: 0}


def test_the_capacity_doubles():
    slots, seen = Slots(1), []
    for number in range(1, 40):
        slots.place(number)
        seen.append(slots.capacity)
    assert sorted(set(seen)) == [4, 8, 16, 32, 64]
    assert all(c >= 2 + n for n, c in enumerate(seen, 1))


def test_max_memory_caps_the_bank_and_thins_the_extras_evenly():
    for most in (2, 3, 5, 8):
        slots = Slots(1, max_memory=most)
        for last in range(1, 200):
            valid = slots.valid(last, np.zeros(1, int))
            assert valid.sum() <= most
            slots.place(last)
            assert slots.capacity <= most
            gaps = np.diff(sorted(slots.extras))
            assert (gaps == slots.interval).all()
        assert len(slots.extras) <= most - 2
        assert most == 2 or len(slots.extras) >= (most - 2) // 2


def test_the_capacities_foretold_are_those_that_come():
    for interval, most in ((1, None), (3, None), (1, 2), (1, 7), (2, 40)):
        for frames in (1, 2, 3, 4, 7, 30):
            slots = Slots(interval, most)
            foretold, seen = slots.capacities(frames), {slots.capacity}
            for number in range(1, frames):  # frame 0 is what the video starts with
                slots.place(number)
                seen.add(slots.capacity)
            assert foretold == sorted(seen)
        assert slots.capacities(None)[-1] == (most or 4)


def test_slots_of_frames_that_no_object_left_has_seen_are_free_again():
    slots = Slots(1)
    for number in range(1, 7):
        slots.place(number)
    slots.forget(5)
    assert list(slots.extras) == [6]
    assert slots.valid(8, np.array([5]))[0].nonzero()[0].tolist() == [0, 1, slots.extras[6]]
    assert slots.place(7) == 2
    assert slots.capacity == 8


def test_slots_cleared_are_as_new_with_the_interval_asked_for_and_too_few_are_refused():
    slots = Slots(1, max_memory=3)
    for number in range(1, 20):
        slots.place(number)
    slots.change_interval(2)
    for number in range(20, 40):
        slots.place(number)
    slots.clear()
    assert (slots.interval, slots.capacity, slots.extras) == (2, 3, {})
    with pytest.raises(InputError, match="max_memory 1"):
        Slots(10, 1)


def test_objects_are_padded_to_few_sizes_and_by_no_more_than_half():
    sizes = [bucket(n) for n in range(1, 255)]
    assert all(n <= size <= 1.5 * n for n, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]


def test_a_bank_that_grows_frees_each_old_array_once_its_copy_is_made(monkeypatch):
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
