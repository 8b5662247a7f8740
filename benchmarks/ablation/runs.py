"""The folder of an ablation: what is trained and evaluated in it, and what does the rest.

    DIR/config.json             the common config: that of "full"
    DIR/ROW/seedS/              workdir of a training (see `training.workdir`), train.log,
                                training.json: how long it took
    DIR/ROW/seedS/results/      output of evaluate.py, evaluate.log
    DIR/ROW/seedS/evaluation.json   its scores, and what they were made with
    DIR/table.md, table.csv, differences.png

A row that differs from another in `config.eval` alone has no training of its own.
"""

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from benchmarks.ablation import child
from benchmarks.ablation.plan import Plan, Run
from configs.ablations import ABLATIONS
from data_pipeline.triplets.entries import Entry, resolve
from data_pipeline.triplets.examples import open_examples
from qmra_jax import __version__
from qmra_jax.errors import InputError
from qmra_jax.evaluation.results import digest
from qmra_jax.files import make_folder, written_whole
from qmra_jax.inference import memory_bank
from qmra_jax.network import build
from qmra_jax.training import config_check, initialization, preemption, workdir
from qmra_jax.training.validation import open_validation

ROOT = Path(__file__).parents[2]
# Settings that may change from one command to the next; how rows are evaluated may not.
FREE = (*(name for name in workdir.FREE if name != "eval"), "eval.every", "eval.metric")

_variable_shapes = functools.cache(build.variable_shapes)  # seeds share networks


class Runs:
    """The state of a plan's runs in a folder; trains and evaluates them by `start`."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        start: Callable[..., int],
        *,
        overwrite: bool = False,
        plugins: Sequence[str] = (),
    ):
        self.plan, self.folder, self._start = plan, Path(folder).absolute(), start
        self._overwrite = ["--overwrite"] if overwrite else []
        self._plugins = [f"--plugin={name}" for name in plugins]
        self._evaluations: dict[str, tuple[list[str], str]] = {}  # by `config.eval`, as JSON

    def check(self) -> None:
        """Checks that all runs can be done; writes nothing.

        Raises:
          InputError: if the folder holds another ablation, or data or files are missing.
        """
        names = sorted(path.name for path in self.folder.glob("*"))
        others = [name for name in names if name not in ABLATIONS]
        if others and "config.json" not in names:
            raise InputError(
                f"workdir {self.folder} holds {others[0]} but no ablation: give a new folder"
            )
        workdir.check_run(epath.Path(self.folder), self.plan.common(), FREE)
        for training in self.plan.trainings():
            config, run_folder = self.plan.config(training), epath.Path(self.path(training))
            workdir.check_run(run_folder, config)
            if self.is_trained(training):
                continue
            try:  # what train.py would refuse later
                config_check.check(config)
                model = build.build_model(config.model)
                shapes = _variable_shapes(model)  # fails for bad values of a variant's options
                frozen = initialization.load_frozen(shapes, config)
                initialization.check(model, config, run_folder, frozen)
                open_examples(config.data, seed=0, global_batch=config.batch_size)
            except InputError as error:
                raise InputError(f"{training}: {error}") from None
        for run in self.plan.runs:
            self._evaluation(run)

    def claim(self) -> None:
        """Creates the folder. Call `check` first."""
        make_folder(self.folder, advice=workdir.ADVICE)
        workdir.claim(epath.Path(self.folder), self.plan.common())

    def path(self, run: Run) -> Path:
        """The folder of a run."""
        return run.folder(self.folder)

    def evaluated(self) -> list[Run]:
        """Runs evaluated in the folder, by this plan or by earlier commands."""
        parts = [path.parts[-3:-1] for path in sorted(self.folder.glob("*/seed*/evaluation.json"))]
        return [Run(row, int(seed.removeprefix("seed"))) for row, seed in parts if row in ABLATIONS]

    def state(self, run: Run) -> str:
        """A run's state in words."""
        training, steps = run.training, self.plan.config(run).steps
        shared = "" if training == run else f" as {training.row}"
        if self.is_trained(training):
            return f"trained{shared}, {'evaluated' if self.scores(run) else 'to evaluate'}"
        done = self.steps_done(training)
        return f"to train{shared}" + (f", {done} of {steps} steps are done" if done else "")

    def steps_done(self, training: Run) -> int:
        """The step of a training's newest checkpoint, or 0."""
        names = [path.name for path in (self.path(training) / "checkpoints").glob("*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def is_trained(self, training: Run) -> bool:
        """Whether all steps are done."""
        return self.steps_done(training) >= self.plan.config(training).steps

    def training_seconds(self, training: Run) -> float | None:
        """Seconds that a training took; None if unknown, as a part of it was killed."""
        return _read(self.path(training) / "training.json").get("seconds")

    def train(self, training: Run) -> str:
        """Trains or resumes; returns "" or why it is not done."""
        folder = self.path(training)
        record = folder / "training.json"
        before = _read(record).get("seconds", 0.0)
        program = ["train.py", *self.plan.arguments(training), f"--workdir={folder}"]
        make_folder(folder, advice=workdir.ADVICE)
        with child.only_one(folder / "lock") as lock:
            if lock is None:
                return "another process is at it"
            _write(record, {"seconds": None})  # unknown if this process is killed
            began = time.perf_counter()
            status = self._run(program, folder / "train.log", lock)
            if before is not None:
                _write(record, {"seconds": before + time.perf_counter() - began})
        if status == preemption.STOPPED:
            return "stopped and saved"
        return child.failure(status, folder / "train.log")

    def scores(self, run: Run) -> dict[str, Any] | None:
        """The scores of evaluate.py; None unless they belong to these weights and settings."""
        record = _read(self.path(run) / "evaluation.json")
        if record and self.is_trained(run.training) and record["made_with"] == self._made_with(run):
            return record["scores"]
        return None

    def evaluate(self, run: Run) -> str:
        """Evaluates or resumes; returns "" or why it is not done."""
        folder, results = self.path(run), self.path(run) / "results"
        made_with, (arguments, _) = self._made_with(run), self._evaluation(run)
        places = [f"--workdir={self.path(run.training)}", f"--output={results}"]
        program = ["evaluate.py", *places, *arguments, *self._overwrite]
        make_folder(folder, advice=workdir.ADVICE)
        with child.only_one(folder / "lock") as lock:
            if lock is None:
                return "another process is at it"
            if status := self._run(program, folder / "evaluate.log", lock):
                return child.failure(status, folder / "evaluate.log")
        scores = json.loads((results / "scores.json").read_text())
        del scores["sequences"]
        _write(folder / "evaluation.json", {"made_with": made_with, "scores": scores})
        return ""

    def _run(self, program: Sequence[str], log: Path, lock) -> int:
        command = [sys.executable, str(ROOT / program[0]), *program[1:], *self._plugins]
        return self._start(command, log, lock=lock)

    def _made_with(self, run: Run) -> dict[str, Any]:
        """What the scores of a trained run depend on."""
        newest = self.path(run.training) / "checkpoints" / str(self.steps_done(run.training))
        arguments, data = self._evaluation(run)
        return {
            "trained_as": run.training.row,
            # It holds the time of writing, so it differs between trainings.
            "checkpoint": digest((newest / "_CHECKPOINT_METADATA").read_bytes()),
            "version": __version__,
            "data": data,
            "arguments": arguments,
        }

    def _evaluation(self, run: Run) -> tuple[list[str], str]:
        config = self.plan.config(run)
        key = json.dumps(workdir.plain(config)["eval"])
        if key not in self._evaluations:
            self._evaluations[key] = _evaluation_of(config)
        return self._evaluations[key]


def _evaluation_of(config: ConfigDict) -> tuple[list[str], str]:
    """`config.eval` as arguments of evaluate.py, and a digest of its frames and masks.

    Raises:
      InputError: if a value is out of range, or a file is missing or unfit.
    """
    config.eval.every = config.steps  # else its files are not looked for
    validation = open_validation(config, epath.Path())
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
        arguments += ["--sequences", *(video.name for video in validation.videos)]
    files = [file for pair in validation.truth.items() for file in pair]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return arguments, digest(json.dumps(states))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(f"{path} is damaged: remove it to make it anew") from None


def _write(path: Path, record: dict[str, Any]) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n")
