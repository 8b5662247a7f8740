"""An ablation's folder: what is trained and evaluated in it, and what does the rest.

    DIR/config.json             what all rows have in common: the config of "full"
    DIR/ROW/seedS/              a training run's workdir (see `training.workdir`), train.log,
                                training.json: how long it took
    DIR/ROW/seedS/results/      evaluate.py's, evaluate.log
    DIR/ROW/seedS/evaluation.json   its scores, and what they were made with
    DIR/table.md, table.csv, differences.png

A row that differs from another in `config.eval` alone has no training of its own.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from etils import epath
from ml_collections import ConfigDict

from benchmarks.ablation import child
from benchmarks.ablation.plan import Plan, Run
from configs.ablations import ABLATIONS
from data_pipeline.triplets.entries import Entry, resolve
from data_pipeline.triplets.examples import open_examples
from qmra_jax.errors import InputError
from qmra_jax.evaluation import segmenter
from qmra_jax.evaluation.results import digest
from qmra_jax.files import make_folder, written_whole
from qmra_jax.inference import memory_bank
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.training import config_check, initialization, preemption, workdir
from qmra_jax.training.validation import open_validation

ROOT = Path(__file__).parents[2]
# Of an ablation's config these may change from one command to the next; how it is evaluated not.
FREE = (*(name for name in workdir.FREE if name != "eval"), "eval.every", "eval.metric")


class Runs:
    """What is done of a plan, and the doing of it.

    Attributes:
      plan: which runs there are.
      folder: of the ablation.
    """

    def __init__(
        self, folder: Path, plan: Plan, start: Callable[..., int], *, overwrite: bool = False
    ):
        """Looks at nothing yet.

        Args:
          folder: of the ablation.
          plan: which runs there are.
          start: runs a command and gives its exit status: `child.Children`.
          overwrite: masks that were made with something else may be replaced.
        """
        self.plan, self.folder, self._start = plan, Path(folder).absolute(), start
        self._overwrite = ["--overwrite"] if overwrite else []
        self._evaluations: dict[str, tuple[list[str], str]] = {}  # by `config.eval`, as JSON

    def check(self) -> None:
        """Finds out whether all of it can be done; writes nothing.

        Raises:
          InputError: if the folder is another ablation's, or data or programs are not there.
        """
        names = sorted(path.name for path in self.folder.glob("*"))
        others = [name for name in names if name not in ABLATIONS]
        if others and "config.json" not in names:
            raise InputError(
                f"workdir {self.folder} holds {others[0]} and no ablation: give a new or an empty"
                " folder"
            )
        workdir.check_run(epath.Path(self.folder), self.plan.common(), FREE)
        for training in self.plan.trainings():
            config, run_folder = self.plan.config(training), epath.Path(self.path(training))
            workdir.check_run(run_folder, config)
            if self.is_trained(training):
                continue
            try:  # what train.py would refuse row by row
                config_check.check(config)
                model = build_model(config.model)
                shapes = variable_shapes(model)  # which meets what an option's value cannot be
                frozen = initialization.load_frozen(shapes, config)
                initialization.check(model, config, run_folder, frozen)
                open_examples(config.data, seed=0, global_batch=config.batch_size)
            except InputError as error:
                raise InputError(f"{training}: {error}") from None
        for run in self.plan.runs:
            self._evaluation(run)

    def claim(self) -> None:
        """Makes the folder this ablation's. To be called after `check`."""
        make_folder(self.folder, advice=workdir.ADVICE)
        workdir.claim(epath.Path(self.folder), self.plan.common())

    def path(self, run: Run) -> Path:
        """What belongs to this run alone."""
        return run.folder(self.folder)

    def evaluated(self) -> list[Run]:
        """Rows and seeds that lie evaluated in the folder, of this plan or of another command."""
        parts = [path.parts[-3:-1] for path in sorted(self.folder.glob("*/seed*/evaluation.json"))]
        return [Run(row, int(seed.removeprefix("seed"))) for row, seed in parts if row in ABLATIONS]

    def state(self, run: Run) -> str:
        """A run in a few words."""
        training, steps = run.training, self.plan.config(run).steps
        own = "" if training == run else f" as {training.row}"
        if not self.is_trained(training):
            done = self.steps_done(training)
            return f"to train{own}, {done} of {steps} steps are done" if done else f"to train{own}"
        return f"trained{own}, {'evaluated' if self.scores(run) else 'to evaluate'}"

    # ---------------------------------------------------------------- training

    def steps_done(self, training: Run) -> int:
        """The step of a training's newest checkpoint; 0 without."""
        names = [path.name for path in (self.path(training) / "checkpoints").glob("*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def is_trained(self, training: Run) -> bool:
        """Whether all of its steps are done."""
        return self.steps_done(training) >= self.plan.config(training).steps

    def training_seconds(self, training: Run) -> float | None:
        """What a finished training took; None where a part of it was killed unnoted."""
        return _read(self.path(training) / "training.json").get("seconds")

    def train(self, training: Run) -> str:
        """Trains, or goes on with it; gives "" or why it is not done."""
        folder = self.path(training)
        record = folder / "training.json"
        before = _read(record).get("seconds", 0.0)
        program = ["train.py", *self.plan.arguments(training), f"--workdir={folder}"]
        with self._at_work(folder) as lock:
            if lock is None:
                return "another process is at it"
            _write(record, {"seconds": None})  # not known, should this process be killed
            began = time.perf_counter()
            status = self._run(program, folder / "train.log", lock)
            if before is not None:
                _write(record, {"seconds": before + time.perf_counter() - began})
        if status == preemption.STOPPED:
            return "stopped and saved"
        return child.failure(status, folder / "train.log")

    # -------------------------------------------------------------- evaluation

    def scores(self, run: Run) -> dict[str, Any] | None:
        """A run's scores, evaluate.py's; None if there are none of these weights and settings."""
        record = _read(self.path(run) / "evaluation.json")
        is_trained = self.is_trained(run.training)
        return (
            record["scores"]
            if is_trained and record.get("made_with") == self._made_with(run)
            else None
        )

    def evaluate(self, run: Run) -> str:
        """Evaluates, or goes on with it; gives "" or why it is not done."""
        folder, results = self.path(run), self.path(run) / "results"
        made_with, (arguments, _) = self._made_with(run), self._evaluation(run)
        places = [f"--workdir={self.path(run.training)}", f"--output={results}"]
        program = ["evaluate.py", *places, *arguments, *self._overwrite]
        with self._at_work(folder) as lock:
            if lock is None:
                return "another process is at it"
            if status := self._run(program, folder / "evaluate.log", lock):
                return child.failure(status, folder / "evaluate.log")
        scores = json.loads((results / "scores.json").read_text())
        del scores["sequences"]
        _write(folder / "evaluation.json", {"made_with": made_with, "scores": scores})
        return ""

    # ----------------------------------------------------------------- private

    def _at_work(self, folder: Path) -> contextlib.AbstractContextManager[IO | None]:
        """Holds a run's folder, or gives None where another process does."""
        make_folder(folder, advice=workdir.ADVICE)
        return child.only_one(folder / "lock")

    def _run(self, program: Sequence[str], log: Path, lock: IO) -> int:
        """The exit status of a program of this checkout."""
        return self._start([sys.executable, str(ROOT / program[0]), *program[1:]], log, lock=lock)

    def _made_with(self, run: Run) -> dict[str, Any]:
        """What the scores of a trained run depend on."""
        newest = self.path(run.training) / "checkpoints" / str(self.steps_done(run.training))
        arguments, data = self._evaluation(run)
        return {
            "trained_as": run.training.row,
            # It tells when the checkpoint was written, so another training is another.
            "checkpoint": digest((newest / "_CHECKPOINT_METADATA").read_bytes()),
            "version": segmenter.package_version(),
            "data": data,
            "arguments": arguments,
        }

    def _evaluation(self, run: Run) -> tuple[list[str], str]:
        config = self.plan.config(run)
        key = json.dumps(workdir.plain(config)["eval"])
        if key not in self._evaluations:
            self._evaluations[key] = evaluation_of(config)
        return self._evaluations[key]


def evaluation_of(config: ConfigDict) -> tuple[list[str], str]:
    """What `config.eval` says, for evaluate.py.

    Args:
      config: of the whole run.

    Returns:
      Its arguments, but for the weights and the output, and a digest of the names, sizes and times
      of all frames and true masks.

    Raises:
      InputError: if a value is out of range, or a file is missing or unfit.
    """
    config.eval.every = config.steps  # so that its files are looked for
    found = open_validation(config, epath.Path())
    entry = Entry.parse(config.eval.videos, "eval.videos")
    if entry.year and entry.year != config.eval.protocol.removeprefix("davis"):
        raise entry.error(
            f"evaluate.py knows {config.eval.protocol}'s own lists: leave the year out"
        )
    arguments = [
        f"--data_dir={resolve(entry, config.data.root)}",
        f"--dataset={config.eval.protocol}",
        f"--split={entry.split or 'all'}",
        f"--short_side={config.eval.short_side}",
        f"--interval={config.eval.interval}",
    ]
    if not config.eval.extra_frames:
        arguments.append(f"--max_memory={memory_bank.EXTRA}")
    if config.eval.max_sequences:
        arguments += ["--sequences", *(video.name for video in found.videos)]
    files = [file for pair in found.truth.items() for file in pair]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return arguments, digest(json.dumps(states))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(f"{path} is damaged: remove it, and it is made anew") from None


def _write(path: Path, record: dict[str, Any]) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n")
