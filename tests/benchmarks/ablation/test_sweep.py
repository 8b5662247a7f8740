"""What is run, skipped and repeated: with pretended processes, and once for real."""

import json
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

import evaluate
import train
from benchmarks import network_cost
from benchmarks.ablation import child, sweep
from benchmarks.ablation.plan import Run, make_plan
from configs import ablations
from qmra_jax.errors import InputError
from qmra_jax.training import preemption
from qmra_jax.training.workdir import claim
from tests.support import tiny_config as tiny

STEPS = tiny.STEPS


@pytest.fixture
def overrides(tiny_davis, monkeypatch):
    """Overrides for rows on the tiny network; "no_bca" is made one that it allows."""
    monkeypatch.setitem(ablations.BASES, "tiny", tiny)
    monkeypatch.setitem(ablations.ABLATIONS, "no_bca", {"model.aggregator": "bca:reduction=8"})
    return [f"--config.data.root={tiny_davis}", "--config.eval.videos=.:val"]


class Pretended:
    """Replaces processes: writes what train.py and evaluate.py would."""

    def __init__(self, fail=()):
        self.fail, self.done, self.scores = set(fail), [], {}

    def __call__(self, command, log, *, lock):
        assert command[0] == sys.executable
        program = Path(command[1]).stem
        options = dict(part.removeprefix("--").partition("=")[::2] for part in command[2:])
        folder = Path(options.get("output", options["workdir"]))
        row = folder.parts[-3 if program == "evaluate" else -2]
        self.done.append((program, row))
        if row in self.fail:
            log.write_text("some output\nerror: it cannot be\n")
            return 2
        if program == "train":
            step = folder / "checkpoints" / str(STEPS)
            step.mkdir(parents=True)
            (step / "_CHECKPOINT_METADATA").write_text(str(len(self.done)))
            overrides = [x for x in command[3:-1] if not x.startswith("--config.seed=")]
            plan = make_plan(row, options["config.seed"], "tiny", overrides)
            claim(folder, plan.config(plan.runs[0]))
            return 0
        part = {"mean": 0.5 + len(self.done) / 100, "recall": 0.4, "decay": 0.0}
        folder.mkdir(parents=True, exist_ok=True)
        scores = {"J": part, "F": part, "J&F": part["mean"], "sequences": {}, **options}
        (folder / "scores.json").write_text(json.dumps(scores))
        self.scores[row] = options
        return 0


@pytest.fixture
def go(overrides, tmp_path, monkeypatch):
    """Runs the command with pretended processes."""
    monkeypatch.setattr(network_cost, "parameters", lambda _: 1000)
    monkeypatch.setattr(network_cost, "frame_flops", lambda *_: 10**9)

    def go(start, *arguments, more=()):
        args, own = sweep.parse_args(
            [f"--workdir={tmp_path / 'ab'}", "--base=tiny", *arguments, *more]
        )
        return sweep.ablate(args, [*overrides, *own], start)

    return go


ROWS = "--configs=full,no_bca,no_ef"
BOTH = [("train", "no_bca"), ("evaluate", "no_bca")]


def test_a_row_that_differs_in_inference_uses_anothers_training(go, tmp_path):
    start = Pretended()
    assert go(start, ROWS) == 0
    assert start.done == [("train", "full"), ("evaluate", "full"), ("evaluate", "no_ef"), *BOTH]
    assert start.scores["no_ef"]["workdir"] == start.scores["full"]["workdir"]
    assert start.scores["no_ef"]["max_memory"] == "2"
    assert "max_memory" not in start.scores["full"]
    table = (tmp_path / "ab" / "table.md").read_text()
    assert "no_ef with full" in table
    assert "Partial" not in table
    numbers = pd.read_csv(tmp_path / "ab" / "table.csv", index_col="row")
    assert numbers.loc["no_ef", "J mean"] == 0.53
    assert numbers.loc["no_ef", "trained as"] == "full"
    assert (tmp_path / "ab" / "differences.png").exists()


def test_finished_runs_are_skipped_and_new_ones_add_to_the_table(go, tmp_path):
    go(Pretended(), ROWS)
    assert go(again := Pretended(), ROWS) == 0
    assert again.done == []
    assert go(more := Pretended(), "--configs=no_bca", "--seeds=0,1") == 0
    assert more.done == BOTH
    numbers = pd.read_csv(tmp_path / "ab" / "table.csv", index_col="row")
    assert set(numbers.index) == {"full", "no_bca", "no_ef"}
    assert numbers.loc["no_bca", "seeds"] == "0 1"


def test_scores_of_other_weights_frames_or_versions_are_not_used(
    go, tmp_path, tiny_davis, monkeypatch
):
    def done_again():
        go(start := Pretended(), "--configs=full")
        return start.done

    go(Pretended(), "--configs=full")
    checkpoint = tmp_path / "ab/full/seed0/checkpoints" / str(STEPS) / "_CHECKPOINT_METADATA"
    checkpoint.write_text("trained again")
    assert done_again() == [("evaluate", "full")]
    next((tiny_davis / "Annotations/480p/left").iterdir()).touch()
    assert done_again() == [("evaluate", "full")]
    monkeypatch.setattr("benchmarks.ablation.runs.__version__", "9.9")
    assert done_again() == [("evaluate", "full")]
    assert done_again() == []


def test_a_failed_row_is_reported_and_the_others_go_on(go, tmp_path, capsys):
    start = Pretended(fail={"full"})
    assert go(start, ROWS) == 1
    assert start.done == [("train", "full"), *BOTH]
    printed = capsys.readouterr().err
    for run in ("full", "no_ef"):
        assert f"failed: {run} seed 0: train: it cannot be" in printed
    assert "- full seed 0: train: it cannot be" in (tmp_path / "ab" / "table.md").read_text()
    assert go(Pretended(), ROWS) == 0  # a later command tries again
    assert "Partial" not in (tmp_path / "ab" / "table.md").read_text()


@pytest.mark.parametrize(
    ("other", "named"), [("--config.steps=11", "steps"), ("--config.eval.short_side=32", "32 here")]
)
def test_a_folder_of_other_settings_is_refused_before_anything_runs(go, other, named):
    go(Pretended(), "--configs=full", "--config.log_every=2")
    with pytest.raises(InputError, match=named):
        go(start := Pretended(), ROWS, other)
    assert not start.done
    assert go(Pretended(), ROWS, "--config.log_every=3") == 0  # logging may change


def test_foreign_folders_are_refused_untouched(go, overrides, tmp_path):
    plan = make_plan("full", base="tiny", overrides=[*overrides, "--config.steps=7"])
    (tmp_path / "ab/full/seed0").mkdir(parents=True)
    claim(tmp_path / "ab/full/seed0", plan.config(Run("full", 0)))
    with pytest.raises(InputError, match="steps: 7 there"):
        go(Pretended(), ROWS)
    (tmp_path / "ab/table.md").write_text("mine")
    with pytest.raises(InputError, match=r"table\.md"):
        go(Pretended(), ROWS)
    assert (tmp_path / "ab/table.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--config.eval.videos=.:test", "test"),
        ("--config.data.videos=('gone:train',)", "gone"),
        ("--config.model.reader=guess", "guess"),
        ("--config.model.reader=topk:k=0", "topk k 0"),
        ("--config.init.encoders=nowhere.pth", "nowhere.pth"),
        ("--init_from=nowhere", "full seed 0"),
        ("--shard=3/2", "3/2"),
    ],
)
def test_bad_input_fails_before_anything_is_written(go, tmp_path, argument, named):
    with pytest.raises(InputError, match=named):
        go(Pretended(), ROWS, argument)
    assert not (tmp_path / "ab").exists()


def test_hosts_share_the_trainings_and_the_last_has_the_whole_table(go, tmp_path):
    go(first := Pretended(), ROWS, "--shard=1/2")
    assert "- no_bca seed 0: to train\n" in (tmp_path / "ab" / "table.md").read_text()
    go(second := Pretended(), ROWS, "--shard=2/2")
    assert [row for program, row in first.done if program == "train"] == ["full"]
    assert second.done == BOTH
    assert "Partial" not in (tmp_path / "ab" / "table.md").read_text()


def test_a_locked_folder_is_left_alone(go, tmp_path):
    (tmp_path / "ab/full/seed0").mkdir(parents=True)
    with child.only_one(tmp_path / "ab/full/seed0/lock"):
        go(start := Pretended(), ROWS)
    assert start.done == BOTH


def test_a_signal_stops_the_command_and_it_resumes_later(go, capsys):
    def stopped(command, log, **options):
        signal.raise_signal(signal.SIGTERM)
        return preemption.STOPPED

    assert go(stopped, ROWS) == preemption.STOPPED
    assert "failed" not in capsys.readouterr().err
    pretended = Pretended()
    assert go(pretended, ROWS) == 0
    assert len(pretended.done) == 5


def test_a_training_time_with_a_killed_part_is_unknown(go, tmp_path):
    def killed(command, log, **options):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(killed, "--configs=full")
    go(Pretended(), "--configs=full")
    go(Pretended(), "--configs=no_bca")
    seconds = pd.read_csv(tmp_path / "ab" / "table.csv", index_col="row")["training seconds"]
    assert seconds.notna().to_dict() == {"full": False, "no_bca": True}


def test_a_dry_run_shows_what_is_left_and_writes_nothing(go, tmp_path, capsys):
    assert go(Pretended(), ROWS, "--dry_run") == 0
    printed = capsys.readouterr().out
    assert "2 trainings of 10 steps, 3 evaluations" in printed
    assert "to train as full" in printed
    assert not (tmp_path / "ab").exists()
    go(Pretended(), "--configs=full")
    capsys.readouterr()
    go(Pretended(), "--configs=full", "--dry_run")
    assert "nothing is left" in capsys.readouterr().out


@pytest.mark.slow
def test_two_rows_are_trained_evaluated_and_put_into_a_table(
    overrides, compile_once, tmp_path, monkeypatch
):
    """As the command does, but in this process, which has compiled the network already."""

    def here(command, log, **options):
        program, arguments = Path(command[1]).name, command[2:]
        if program == "train.py":
            workdir = Path(arguments[-1].removeprefix("--workdir="))
            plan = make_plan(workdir.parts[-2], "0", "tiny", overrides)
            return train.train(plan.config(plan.runs[0]), workdir)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        evaluate.main()
        return 0

    args, _ = sweep.parse_args([f"--workdir={tmp_path}", "--configs=full,no_ef", "--base=tiny"])
    assert sweep.ablate(args, overrides, here) == 0
    table = (tmp_path / "table.md").read_text()
    scores = json.loads((tmp_path / "full/seed0/evaluation.json").read_text())["scores"]
    assert f"{scores['J']['mean']:.3f}" in table
    no_ef = json.loads((tmp_path / "no_ef/seed0/evaluation.json").read_text())["scores"]
    assert no_ef["max_memory"] == 2
    assert (tmp_path / "differences.png").exists()
