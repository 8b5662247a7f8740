"""What is done, skipped and done again; without training, and once with it."""

import json
import signal
import sys
from pathlib import Path

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
    """Of rows on the tiny network, of which one changes what any network can be told."""
    monkeypatch.setitem(ablations.BASES, "tiny", tiny)
    monkeypatch.setitem(ablations.ABLATIONS, "no_bca", {"model.aggregator": "bca:reduction=8"})
    return [f"--config.data.root={tiny_davis}", "--config.eval.videos=.:val"]


class Pretended:
    """In the place of processes: leaves what train.py and evaluate.py leave."""

    def __init__(self, fail=()):
        self.fail, self.done, self.scores = set(fail), [], {}

    def __call__(self, command, log, *, lock=None, tick=lambda: None):
        assert command[0] == sys.executable
        assert lock is not None
        tick()
        program = Path(command[1]).name
        options = dict(part.removeprefix("--").partition("=")[::2] for part in command[2:])
        folder = Path(options.get("output", options["workdir"]))
        row = folder.parts[-3 if program == "evaluate.py" else -2]
        self.done.append((program.removesuffix(".py"), row))
        if row in self.fail:
            log.write_text("a long story\nerror: it cannot be\n")
            return 2
        if program == "train.py":
            step = folder / "checkpoints" / str(STEPS)
            step.mkdir(parents=True)
            (step / "_CHECKPOINT_METADATA").write_text(str(len(self.done)))
            base = options["config"].rpartition("@")[2]
            own = [part for part in command[3:-1] if not part.startswith("--config.seed=")]
            plan = make_plan(row, options["config.seed"], base, own)
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


def test_a_row_that_differs_in_inference_is_evaluated_by_anothers_training(go, tmp_path, capsys):
    start = Pretended()
    assert go(start, ROWS) == 0
    assert start.done == [
        ("train", "full"),
        ("evaluate", "full"),
        ("evaluate", "no_ef"),
        ("train", "no_bca"),
        ("evaluate", "no_bca"),
    ]
    assert start.scores["no_ef"]["workdir"] == start.scores["full"]["workdir"]
    assert start.scores["no_ef"]["max_memory"] == "2"
    assert "max_memory" not in start.scores["full"]
    assert "no_ef seed 0 (by the training of full): J&F 0.530" in capsys.readouterr().out
    table = (tmp_path / "ab" / "table.md").read_text()
    assert "Share a training, as they differ in inference alone: no_ef with full." in table
    assert "Partial" not in table
    assert (tmp_path / "ab" / "table.csv").exists()
    assert (tmp_path / "ab" / "differences.png").exists()


def test_what_is_done_is_not_done_again_and_more_rows_and_seeds_add_to_the_table(go, tmp_path):
    go(Pretended(), ROWS)
    assert go(again := Pretended(), ROWS) == 0
    assert again.done == []
    assert go(more := Pretended(), "--configs=no_bca", "--seeds=0,1") == 0
    assert more.done == [("train", "no_bca"), ("evaluate", "no_bca")]
    table = (tmp_path / "ab" / "table.md").read_text()
    assert "| full |" in table.replace("   ", " ").replace("  ", " ")
    assert " ± " in table


def test_scores_of_other_weights_other_frames_or_another_release_are_not_used(
    go, tmp_path, tiny_davis, monkeypatch
):
    go(Pretended(), "--configs=full")
    checkpoint = tmp_path / "ab/full/seed0/checkpoints" / str(STEPS) / "_CHECKPOINT_METADATA"
    checkpoint.write_text("trained again")
    go(start := Pretended(), "--configs=full")
    assert start.done == [("evaluate", "full")]

    mask = next((tiny_davis / "Annotations/480p/left").iterdir())
    mask.touch()
    go(start := Pretended(), "--configs=full")
    assert start.done == [("evaluate", "full")]

    monkeypatch.setattr("qmra_jax.evaluation.segmenter.package_version", lambda: "9.9")
    go(start := Pretended(), "--configs=full")
    assert start.done == [("evaluate", "full")]


def test_a_row_that_fails_is_told_and_the_others_go_on(go, tmp_path, capsys):
    start = Pretended(fail={"full"})
    assert go(start, ROWS) == 1
    assert start.done == [("train", "full"), ("train", "no_bca"), ("evaluate", "no_bca")]
    told = capsys.readouterr().err
    assert "failed: full seed 0: training: it cannot be (status 2; see " in told
    assert "failed: no_ef seed 0: training: it cannot be" in told
    table = (tmp_path / "ab" / "table.md").read_text()
    assert "**Partial: not done yet are**\n\n- full seed 0: training: it cannot be" in table
    assert go(Pretended(), ROWS) == 0  # a later command tries again
    assert "Partial" not in (tmp_path / "ab" / "table.md").read_text()


def test_a_folder_of_other_settings_is_refused_before_anything_runs(go, tmp_path):
    go(Pretended(), "--configs=full")
    for other, says in (
        ("--config.steps=11", "steps: 10 there, 11 here"),
        ("--config.eval.short_side=32", "eval.short_side: 0 there, 32 here"),
    ):
        with pytest.raises(InputError, match=says):
            go(start := Pretended(), ROWS, other)
        assert not start.done
    go(Pretended(), ROWS, "--config.log_every=3")  # how it is told may change


def test_a_row_trained_otherwise_by_hand_is_refused(go, overrides, tmp_path):
    plan = make_plan("full", base="tiny", overrides=[*overrides, "--config.steps=7"])
    (tmp_path / "ab/full/seed0").mkdir(parents=True)
    claim(tmp_path / "ab/full/seed0", plan.config(Run("full", 0, "full")))
    with pytest.raises(InputError, match="steps: 7 there, 10 here"):
        go(Pretended(), ROWS)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--config.eval.videos=.:test", "split 2016/test"),
        ("--config.data.videos=('gone:train',)", "gone"),
        ("--config.model.reader=guess", "reader 'guess'"),
        ("--config.init.encoders=nowhere.pth", "nowhere.pth"),
        ("--init_from=nowhere", "--init_from=nowhere has no full seed 0: expected"),
        ("--shard=3/2", "shard '3/2'"),
    ],
)
def test_bad_input_fails_before_anything_is_written(go, tmp_path, argument, says):
    with pytest.raises(InputError, match=says):
        go(Pretended(), ROWS, argument)
    assert not (tmp_path / "ab").exists()


def test_hosts_share_the_trainings_and_the_last_has_the_whole_table(go, tmp_path):
    go(first := Pretended(), ROWS, "--shard=1/2")
    assert "- no_bca seed 0: to train\n" in (tmp_path / "ab" / "table.md").read_text()
    go(second := Pretended(), ROWS, "--shard=2/2")
    assert [row for program, row in first.done if program == "train"] == ["full"]
    assert [row for program, row in second.done if program == "train"] == ["no_bca"]
    assert "Partial" not in (tmp_path / "ab" / "table.md").read_text()


def test_a_folder_that_another_process_trains_in_is_left_alone(go, tmp_path):
    (tmp_path / "ab/full/seed0").mkdir(parents=True)
    with child.only_one(tmp_path / "ab/full/seed0/lock"):
        go(start := Pretended(), ROWS)
    assert start.done == [("train", "no_bca"), ("evaluate", "no_bca")]


def test_a_folder_of_other_things_is_refused_untouched(go, tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab/table.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds table.md and no ablation: give a new or an empty"):
        go(Pretended(), ROWS)
    assert (tmp_path / "ab/table.md").read_text() == "mine"


def test_an_option_s_value_is_looked_at_before_anything_runs(go):
    with pytest.raises(InputError, match="topk k 0: expected a whole number of at least 1"):
        go(start := Pretended(), "--configs=full", "--config.model.reader=topk:k=0")
    assert start.done == []


def test_a_signal_ends_the_command_and_it_goes_on_later(go, tmp_path, capsys):
    pretended = Pretended()

    def stopped(command, log, **options):
        signal.raise_signal(signal.SIGTERM)
        return preemption.STOPPED

    assert go(stopped, ROWS) == preemption.STOPPED
    assert "run the same command to go on" in capsys.readouterr().out
    assert go(pretended, ROWS) == 0
    assert len(pretended.done) == 5


def test_a_dry_run_tells_what_is_left_and_how_long_and_touches_nothing(go, tmp_path, capsys):
    assert go(Pretended(), ROWS, "--dry_run") == 0
    told = capsys.readouterr().out
    assert "3 rows, seeds 0: 2 trainings of 10 steps, 3 evaluations" in told
    assert "no_ef seed 0   to train as full" in told
    assert "how long is not known" in told
    assert not (tmp_path / "ab").exists()

    go(Pretended(), "--configs=full")
    for path, seconds in (("training.json", 600.0), ("evaluation.json", 60.0)):
        path = tmp_path / "ab/full/seed0" / path
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    capsys.readouterr()
    go(Pretended(), "--configs=full", "--seeds=0", "--dry_run")
    assert "nothing is left to do" in capsys.readouterr().out
    go(Pretended(), "--configs=full,no_bca", "--dry_run")
    told = capsys.readouterr().out
    assert "no_bca seed 0  to train (about 11 min)" in told  # as dear a frame as full
    assert "rows not yet measured by their operations a frame" in told


@pytest.mark.slow
def test_two_rows_are_trained_evaluated_and_put_into_a_table(
    overrides, compile_once, tmp_path, monkeypatch
):
    """As the command does it, but in this process, which has compiled the network already."""

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
    assert json.loads((tmp_path / "no_ef/seed0/evaluation.json").read_text())["scores"][
        "max_memory"
    ] == 2  # fmt: skip
    assert (tmp_path / "differences.png").exists()
