"""Programs take turns in processes of their own, and are compared round by round."""

import os

import pytest

from benchmarks.turns import Contender, check_platforms, take_turns
from qmra_jax.errors import InputError
from tests.support.contenders import Counter, finished


def test_programs_take_turns_each_in_its_own_process():
    contenders = [Contender(f"from {start}", Counter, (start,)) for start in (0, 10)]
    for contender in contenders:
        contender.start()
    take_turns(contenders, rounds=2, steps=3)
    assert [turn.values for turn in contenders[1].turns] == [[12, 13, 14], [15, 16, 17]]
    assert all(turn.matrix_flops > 0 for turn in contenders[1].turns)
    assert len({os.getpid(), *(contender.facts["process"] for contender in contenders)}) == 3
    assert all(contender.facts["peak_rss"] > 2**20 for contender in contenders)


def test_a_program_that_fails_says_why():
    broken = Contender("broken", Counter, (-1,))
    with pytest.raises(InputError, match="broken failed: ValueError: starts below zero"):
        broken.start()
    broken.start(may_fail=True)
    assert broken.failure == "broken failed: ValueError: starts below zero"


def test_a_slow_round_affects_both_sides():
    ours, twin = finished("ours", [1, 9, 1]), finished("PyTorch", [2, 18, 2])
    assert ours.speed(ours) == (1, 2, 1, "1.00 to 1.00", 1)
    assert twin.speed(ours) == (2, 4, 2, "2.00 to 2.00", 1)


def test_different_devices_are_not_compared():
    with pytest.raises(InputError, match="PyTorch runs on the gpu, JAX on the cpu"):
        check_platforms([finished("ours", [1]), finished("PyTorch", [1], platform="gpu")])
