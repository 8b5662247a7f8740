"""Ablations: trains every row on the same data with the same seeds and budget, then compares them.

    python -m benchmarks.ablation --workdir=runs/table3 --seeds=0,1,2 --config.steps=1800 \\
        --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz --dry_run
    python -m benchmarks.ablation --workdir=runs/table3 --configs=full,l2,topk ...

The rows are those of configs/ablations.py. Each is trained by train.py in a process of its own and
then scored by evaluate.py as `config.eval` says. --config.NAME=VALUE applies to all rows. The same
command resumes; one with more rows or seeds, or other --configs, adds to the table. Several hosts
that share the folder each take --shard=I/N. The tables need the extra `plots`.

Exit status: 0 all is done; 1 a row failed, is reported, and the others went on; 2 bad input; 75
stopped by SIGTERM or Ctrl-C: run it again to resume.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from benchmarks.ablation.child import Children
from benchmarks.ablation.plan import NAMED, Run, make_plan
from benchmarks.ablation.runs import Runs
from qmra_jax import errors
from qmra_jax.evaluation import segmenter
from qmra_jax.plugins import load_plugins
from qmra_jax.training import preemption


def parse_args(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of a command line, and its --config.NAME=VALUE."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", type=Path, required=True, help="folder for ROW/seedS/ and the tables")
    rows = f"names with commas, or {' or '.join(NAMED)} (default: table3)"
    add("--configs", default="table3", metavar="ROWS", help=rows)
    add("--seeds", default="0", help="with commas: every row is trained with each (default: 0)")
    add("--base", default="small", help="config of configs/ that rows change (default: small)")
    start = "an earlier ablation, with whose weights each row and seed starts (pre-training)"
    add("--init_from", default="", metavar="DIR", help=start)
    add("--shard", default="1/1", metavar="I/N", help="this host's part of the trainings")
    add("--plugin", action="append", default=[], metavar="MODULE", help="a plugin to import")
    add("--overwrite", action="store_true", help="replace masks made with other settings")
    add("--dry_run", action="store_true", help="show what is done and what is not")
    overrides = [text for text in arguments if text.startswith("--config.")]
    return parser.parse_args([text for text in arguments if text not in overrides]), overrides


def ablate(
    args: argparse.Namespace, overrides: Sequence[str], start: Callable[..., int] | None = None
) -> int:
    """Does what is left of an ablation, or with --dry_run shows it; returns the exit status.

    `start` runs a command, by default `Children`.

    Raises:
      InputError: if it cannot be done; before anything is written or run.
    """
    errors.require_packages("an ablation's table", "matplotlib", "pandas", extra="plots")
    from benchmarks.ablation.report import write_report

    load_plugins(args.plugin)
    plan = make_plan(args.configs, args.seeds, args.base, overrides, args.init_from)
    index, count = segmenter.parse_shard(args.shard)
    trainings = dict(list(plan.trainings().items())[index - 1 :: count])
    problems: dict[Run, str] = {}
    with Children() as children:
        options = {"overwrite": args.overwrite, "plugins": args.plugin}
        runs = Runs(args.workdir, plan, start or children, **options)
        runs.check()
        if args.dry_run:
            _describe(runs, trainings)
            return 0
        runs.claim()
        write_report(runs, problems)
        for training, evaluations in trainings.items():
            if children.stopping:
                break
            failed = "" if runs.is_trained(training) else _do(runs.train, training)
            for run in evaluations:
                problem = failed
                if not problem and not children.stopping and not runs.scores(run):
                    problem = _do(runs.evaluate, run)
                if problem and not children.stopping:  # a request to stop is no failure
                    problems[run] = problem
            write_report(runs, problems)
    print(runs.folder / "table.md")
    if children.stopping:
        print("Stopped: run the same command to resume.")
        return preemption.STOPPED
    for run, problem in problems.items():
        print(f"failed: {run}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _do(step: Callable[[Run], str], run: Run) -> str:
    """Trains or evaluates and prints the outcome; returns "" or why it is not done."""
    print(f"{run}: {step.__name__} ...", flush=True)
    problem = step(run)
    print(f"{run}: {problem or 'done'}", flush=True)
    return problem and f"{step.__name__}: {problem}"


def _describe(runs: Runs, trainings: dict[Run, list[Run]]) -> None:
    chosen = [run for evaluations in trainings.values() for run in evaluations]
    steps = runs.plan.common().steps
    print(f"{len(trainings)} trainings of {steps} steps, {len(chosen)} evaluations")
    for run in chosen:
        print(f"  {run!s:<28}{runs.state(run)}")
    if left := [training for training in trainings if not runs.is_trained(training)]:
        command = " ".join(runs.plan.arguments(left[0]))
        print(f"the first: python train.py {command} --workdir={runs.path(left[0])}")
    elif all(runs.scores(run) for run in chosen):
        print("nothing is left to do")


def main() -> None:
    """Runs `ablate`."""
    args, overrides = parse_args(sys.argv[1:])
    # The training processes need the whole accelerator; here networks are only counted.
    jax.config.update("jax_platforms", "cpu")
    with errors.exit_on_input_error():
        raise SystemExit(ablate(args, overrides))
