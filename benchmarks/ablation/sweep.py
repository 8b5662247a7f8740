"""Ablations: every row trained on the same data with the same seeds and budget, then the table.

    python -m benchmarks.ablation --workdir=runs/table3 --seeds=0,1,2 --config.steps=1800 \\
        --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz --dry_run
    python -m benchmarks.ablation --workdir=runs/table3 --configs=full,l2,topk ...

The rows are configs/ablations.py's. Each is a run of train.py in a process of its own, and then
evaluate.py's scores on `config.eval`. --config.NAME=VALUE holds for all rows. The same command goes
on where it was stopped, and another with more rows or seeds, or other --configs, adds to the table.
Several hosts that share the folder each take --shard=I/N.

Exit status: 0 all is done; 1 a row failed, which is told, and the others went on; 2 bad input; 75
stopped by SIGTERM or Ctrl-C: run it again to go on.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from benchmarks.ablation import forecast
from benchmarks.ablation.child import Children
from benchmarks.ablation.plan import NAMED, Run, make_plan
from benchmarks.ablation.report import cost, write_report
from benchmarks.ablation.runs import Runs, shard
from qmra_jax import errors
from qmra_jax.evaluation import segmenter
from qmra_jax.training import preemption


def parse_args(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and its --config.NAME=VALUE."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", type=Path, required=True, help="folder for ROW/seedS/ and the tables")
    add(
        "--configs",
        default="table3",
        metavar="ROWS",
        help=f"names with commas, or {' or '.join(NAMED)} (default: table3)",
    )
    add("--seeds", default="0", help="with commas: every row is trained with each (default: 0)")
    add("--base", default="small", help="what the rows change, of configs/ (default: small)")
    add(
        "--init_from",
        default="",
        metavar="DIR",
        help="an earlier ablation, whose weights each row and seed begins with: the paper's"
        " pre-training",
    )
    add("--shard", default="1/1", metavar="I/N", help="this host's part of the trainings")
    add("--overwrite", action="store_true", help="replace masks that were made with other things")
    add("--dry_run", action="store_true", help="tell what is done, what is not, and how long")
    overrides = [text for text in arguments if text.startswith("--config.")]
    return parser.parse_args([text for text in arguments if text not in overrides]), overrides


def ablate(
    args: argparse.Namespace, overrides: Sequence[str], start: Callable[..., int] | None = None
) -> int:
    """Does what is left of an ablation, or with --dry_run tells of it.

    Args:
      args: of `parse_args`.
      overrides: likewise.
      start: runs a command; see `Children`, which it is by default.

    Returns:
      The exit status.

    Raises:
      InputError: if it cannot be done; before anything is written or run.
    """
    plan = make_plan(args.configs, args.seeds, args.base, overrides, args.init_from)
    place = segmenter.parse_shard(args.shard)
    with Children() as children:
        runs = Runs(args.workdir, plan, start or children, overwrite=args.overwrite)
        runs.check()
        served = plan.trainings(plan.runs)
        mine = shard(list(served), *place)
        if args.dry_run:
            print(forecast.describe(runs, mine, lambda run: cost(runs, run)[1]))
            return 0
        runs.claim()
        problems: dict[Run, str] = {}
        for number, training in enumerate(mine, 1):
            if children.stopping:
                break
            problem = _train(runs, training, f"[{number}/{len(mine)}]")
            for run in served[training]:
                if children.stopping:
                    break
                failed = f"training: {problem}" if problem else _evaluate(runs, run)
                if failed and not children.stopping:  # being asked to stop is no failure
                    problems[run] = failed
            write_report(runs, problems)
    if not mine:
        write_report(runs, problems)
    print(f"{runs.folder / 'table.md'}")
    if children.stopping:
        print("Stopped: run the same command to go on.")
        return preemption.STOPPED
    for run, problem in problems.items():
        print(f"failed: {run}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _train(runs: Runs, training: Run, place: str) -> str:
    """Trains if need be; gives "" or why it failed."""
    steps = runs.plan.config(training).steps
    if runs.is_trained(training):
        print(f"{place} {training}: trained already")
        return ""
    done = runs.steps_done(training)
    print(f"{place} {training}: training, {done} of {steps} steps are done", flush=True)
    with tqdm(
        total=steps, initial=done, unit="step", desc=str(training), leave=False, disable=None
    ) as bar:
        problem = runs.train(training, lambda: bar.update(max(runs.step_now(training) - bar.n, 0)))
    seconds, whole = runs.training_seconds(training)
    told = problem or f"trained in {'' if whole else 'over '}{seconds:.0f} s"
    print(f"{place} {training}: {told}", flush=True)
    return problem


def _evaluate(runs: Runs, run: Run) -> str:
    """Evaluates if need be; gives "" or why it failed."""
    how = "" if run.row == run.trained_as else f" (by the training of {run.trained_as})"
    if scores := runs.scores(run):
        print(f"  {run}{how}: evaluated already, J&F {scores['J&F']:.3f}", flush=True)
        return ""
    problem = runs.evaluate(run, lambda: None)
    scores = runs.scores(run)
    told = f"J&F {scores['J&F']:.3f}" if scores else problem
    print(f"  {run}{how}: {told}", flush=True)
    return f"evaluation: {problem}" if problem else ""


def main() -> None:
    """Runs `ablate`."""
    args, overrides = parse_args(sys.argv[1:])
    # The processes that train get the accelerator, all of it; here networks are only counted.
    jax.config.update("jax_platforms", "cpu")
    with errors.exit_on_input_error():
        raise SystemExit(ablate(args, overrides))
