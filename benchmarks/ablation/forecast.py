"""What an ablation has done, what is left, and how long that may take."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from benchmarks.ablation.plan import Run
from benchmarks.ablation.runs import Runs


@dataclasses.dataclass(frozen=True)
class Guess:
    """How long something takes.

    Attributes:
      seconds: of it; None if nothing is known.
      measured: whether the very row was measured with other seeds; else another row was, and it is
        scaled by the operations of a frame.
    """

    seconds: float | None
    measured: bool = True


def state(runs: Runs, run: Run) -> str:
    """A run in a few words."""
    training = runs.plan.training(run)
    steps, done = runs.plan.config(run).steps, runs.steps_done(training)
    own = "" if training == run else f" as {training.row}"
    if done < steps:
        return f"to train{own}, {done} of {steps} steps are done" if done else f"to train{own}"
    return f"trained{own}, evaluated" if runs.scores(run) else f"trained{own}, to evaluate"


def describe(runs: Runs, mine: Sequence[Run], flops: Callable[[Run], int]) -> str:
    """What --dry_run prints.

    Args:
      runs: of the command.
      mine: the trainings of this host's shard.
      flops: of a frame of a run's network.
    """
    plan = runs.plan
    served = plan.trainings(plan.runs)
    chosen = [run for training in mine for run in served[training]]
    lines = [
        f"{len(plan.rows)} rows, seeds {', '.join(map(str, plan.seeds))}: {len(mine)} trainings of"
        f" {plan.config(chosen[0]).steps if chosen else 0} steps, {len(chosen)} evaluations"
    ]
    trained = {
        training: seconds
        for training in served
        if runs.is_trained(training) and (found := runs.training_seconds(training))[1]
        for seconds in [found[0]]
    }
    evaluated = {r: s for r in plan.runs if (s := runs.evaluation_seconds(r)) is not None}
    width = max(len(str(run)) for run in plan.runs)
    total, unknown, scaled = 0.0, 0, False
    for training in mine:
        guesses = []
        if not runs.is_trained(training):
            left = 1 - runs.steps_done(training) / plan.config(training).steps
            guess = _guess(training, trained, flops)
            guesses.append(
                dataclasses.replace(guess, seconds=guess.seconds and guess.seconds * left)
            )
        for run in served[training]:
            if not runs.scores(run):
                guesses.append(_guess(run, evaluated, flops))
        for number, run in enumerate(served[training]):
            lines.append(f"  {str(run).ljust(width)}  {state(runs, run)}{_told(guesses, number)}")
        unknown += sum(guess.seconds is None for guess in guesses)
        total += sum(guess.seconds or 0 for guess in guesses)
        scaled |= any(guess.seconds is not None and not guess.measured for guess in guesses)
    if left := [training for training in mine if not runs.is_trained(training)]:
        lines.append(_command(runs, left[0]))
    lines.append(_left(total, unknown, scaled))
    return "\n".join(lines)


def _guess(run: Run, known: dict[Run, float], flops: Callable[[Run], int]) -> Guess:
    same = [seconds for other, seconds in known.items() if other.row == run.row]
    if same:
        return Guess(statistics.fmean(same))
    rates = [seconds / flops(other) for other, seconds in known.items()]
    return Guess(statistics.fmean(rates) * flops(run), measured=False) if rates else Guess(None)


def _told(guesses: Sequence[Guess], number: int) -> str:
    """The time of a training and what it serves, behind the first of them."""
    known = [guess.seconds for guess in guesses if guess.seconds is not None]
    if number or not known:
        return ""
    return f" (about {_duration(sum(known))})"


def _command(runs: Runs, training: Run) -> str:
    arguments = " ".join(runs.plan.arguments(training))
    return f"the first: python train.py {arguments} --workdir={runs.path(training)}"


def _left(total: float, unknown: int, scaled: bool) -> str:
    if not total and not unknown:
        return "nothing is left to do"
    if not total:
        return "how long is not known: nothing of it was measured here yet"
    how = "measured here; rows not yet measured by their operations a frame" if scaled else (
        "measured here"
    )  # fmt: skip
    more = f", and {unknown} parts of unknown length" if unknown else ""
    return f"left: about {_duration(total)} ({how}){more}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"
