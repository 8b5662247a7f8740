"""Progress of a run: rates, memory, progress bar, profile."""

import pytest

from qmra_jax.training import progress


class Time:
    """Replaces the module `time` with a clock that stands still."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    monkeypatch.setattr(progress, "time", Time())
    return progress.time


def test_clock_counts_training_and_waiting_without_pauses(time):
    clock = progress.StepClock(batch_size=8)

    def slow_batches():
        while True:
            time.now += 1
            yield "batch"

    stream = slow_batches()
    for _ in range(2):
        assert clock.next(stream) == "batch"
        time.now += 3
        clock.count()
    with clock.pause():
        time.now += 100
    assert clock.read() == {"triplets_per_second": 2.0, "data_wait_share": 0.25}


def test_without_a_counted_step_there_is_no_rate(time):
    clock = progress.StepClock(batch_size=8)
    time.now += 5
    assert clock.read() == {}
    assert "triplets/s" not in progress.summary({"loss": 1.0, "J_refined": 0.5})


def test_memory_is_in_gibibytes():
    assert 0.05 < progress.memory()["host_memory_gib"] < 1000


def test_without_a_terminal_the_bar_prints_lines(capsys):
    bar = progress.StepBar(steps=10, done=4)
    bar.update()
    bar.tell(5, "loss 0.5")
    bar.close()
    assert capsys.readouterr().out == "step 5/10: loss 0.5\n"


def test_resuming_after_the_first_step_to_profile_prints_a_warning(tmp_path, capsys):
    for done in (2, 3, 8):
        progress.Profile("3:5", tmp_path, done)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert "3:5" in warnings[1]
    assert "step 8" in warnings[1]
