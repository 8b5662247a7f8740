"""Ablations: every row trained on the same data with the same seeds and budget, then the table.

    python -m benchmarks.ablation --workdir=runs/table3 --seeds=0,1,2 --config.steps=1800 \\
        --config.init.encoders=$QMRA_DATA/resnet18/resnet18_imagenet_folded.npz --dry_run
    python -m benchmarks.ablation --workdir=runs/table3 --configs=full,l2,topk ...

The rows are configs/ablations.py's. Each is a run of train.py in a process of its own, and then
evaluate.py's scores on `config.eval`. --config.NAME=VALUE holds for all rows. The same command goes
on where it was stopped, and another with more rows or seeds, or other --configs, adds to the table.
Several hosts that share the folder each take --shard=I/N. The tables need the extra `plots`.

Exit status: 0 all is done; 1 a row failed, which is told, and the others went on; 2 bad input; 75
stopped by SIGTERM or Ctrl-C: run it again to go on.
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
    rows = f"names with commas, or {' or '.join(NAMED)} (default: table3)"
    add("--configs", default="table3", metavar="ROWS", help=rows)
    add("--seeds", default="0", help="with commas: every row is trained with each (default: 0)")
    add("--base", default="small", help="what the rows change, of configs/ (default: small)")
    start = "an earlier ablation, with whose weights each row and seed begins (pre-training)"
    add("--init_from", default="", metavar="DIR", help=start)
    add("--shard", default="1/1", metavar="I/N", help="this host's part of the trainings")
    add("--overwrite", action="store_true", help="replace masks that were made with other things")
    add("--dry_run", action="store_true", help="tell what is done and what is not")
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
    errors.require_packages("an ablation's table", "matplotlib", "pandas", extra="plots")
    from benchmarks.ablation.report import write_report

    plan = make_plan(args.configs, args.seeds, args.base, overrides, args.init_from)
    index, count = segmenter.parse_shard(args.shard)
    served = dict(list(plan.trainings().items())[index - 1 :: count])
    with Children() as children:
        runs = Runs(args.workdir, plan, start or children, overwrite=args.overwrite)
        runs.check()
        if args.dry_run:
            _describe(runs, served)
            return 0
        runs.claim()
        problems: dict[Run, str] = {}
        write_report(runs, problems)
        for training, evaluations in served.items():
            if children.stopping:
                break
            failed = "" if runs.is_trained(training) else _do(runs.train, training)
            for run in evaluations:
                problem = failed
                if not problem and not children.stopping and not runs.scores(run):
                    problem = _do(runs.evaluate, run)
                if problem and not children.stopping:  # being asked to stop is no failure
                    problems[run] = problem
            write_report(runs, problems)
    print(runs.folder / "table.md")
    if children.stopping:
        print("Stopped: run the same command to go on.")
        return preemption.STOPPED
    for run, problem in problems.items():
        print(f"failed: {run}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _do(step: Callable[[Run], str], run: Run) -> str:
    """Trains or evaluates, and says what came of it; gives "" or why it is not done."""
    print(f"{run}: {step.__name__} ...", flush=True)
    problem = step(run)
    print(f"{run}: {problem or 'done'}", flush=True)
    return problem and f"{step.__name__}: {problem}"


def _describe(runs: Runs, served: dict[Run, list[Run]]) -> None:
    """What --dry_run tells of this host's trainings and what they serve."""
    chosen = [run for evaluations in served.values() for run in evaluations]
    print(f"{len(served)} trainings of {runs.plan.common().steps} steps, {len(chosen)} evaluations")
    for run in chosen:
        print(f"  {run!s:<28}{runs.state(run)}")
    if left := [training for training in served if not runs.is_trained(training)]:
        command = " ".join(runs.plan.arguments(left[0]))
        print(f"the first: python train.py {command} --workdir={runs.path(left[0])}")
    elif all(runs.scores(run) for run in chosen):
        print("nothing is left to do")


def main() -> None:
    """Runs `ablate`."""
    args, overrides = parse_args(sys.argv[1:])
    # The processes that train get the accelerator, all of it; here networks are only counted.
    jax.config.update("jax_platforms", "cpu")
    with errors.exit_on_input_error():
        raise SystemExit(ablate(args, overrides))
