"""What is told of a run that goes on: rates, memory, the bar, a trace."""

import pytest

from qmra_jax.training import progress


class Time:
    """Stands for the module `time`: passes when told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    monkeypatch.setattr(progress, "time", Time())
    return progress.time


def test_the_clock_counts_training_and_waiting_and_no_pauses(time):
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


def test_where_no_step_was_timed_there_is_no_rate(time):
    clock = progress.StepClock(batch_size=8)
    time.now += 5
    assert clock.read() == {}
    assert "triplets/s" not in progress.summary({"loss": 1.0, "J_refined": 0.5})


def test_memory_is_in_gibibytes():
    assert 0.05 < progress.memory()["host_memory_gib"] < 1000


def test_without_a_terminal_each_figure_is_a_line(capsys):
    bar = progress.StepBar(steps=10, done=4)
    bar.update()
    bar.tell(5, "loss 0.5")
    bar.close()
    assert capsys.readouterr().out == "step 5/10: loss 0.5\n"


def test_a_run_that_goes_on_past_the_steps_to_profile_says_so_once(tmp_path, capsys):
    for done in (2, 3, 8):
        progress.Profile("3:5", tmp_path, done)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "3:5" in told[1]
    assert "after step 8" in told[1]
