"""An ablation's folder: what is trained and evaluated in it, and what does the rest.

    DIR/config.json             what all rows have in common: the config of "full"
    DIR/ROW/seedS/              a training run's workdir (see `training.workdir`), train.log,
                                training.json: how long it took
    DIR/ROW/seedS/results/      evaluate.py's, evaluate.log
    DIR/ROW/seedS/evaluation.json   its scores, and what they were made with
    DIR/table.md, table.csv, differences.png

A row that differs from another in `config.eval` alone has no training of its own.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from benchmarks.ablation import child
from benchmarks.ablation.examination import Examination, examination
from benchmarks.ablation.plan import Plan, Run, run_folder
from configs.ablations import ABLATIONS
from data_pipeline.triplets.examples import open_examples
from qmra_jax.errors import InputError
from qmra_jax.evaluation import segmenter
from qmra_jax.evaluation.results import digest
from qmra_jax.files import make_folder, written_whole
from qmra_jax.network.model import build_model
from qmra_jax.training import initialization, preemption, workdir
from qmra_jax.training.optimizer import make_optimizer
from qmra_jax.weights.torch_names import variable_shapes

ROOT = Path(__file__).parents[2]
# Of an ablation's config these may change from one command to the next; how it is evaluated not.
FREE = (*(name for name in workdir.FREE if name != "eval"), "eval.every", "eval.metric")

_STEP = re.compile(rb'{"step": (\d+),')


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
        self._examinations: dict[str, Examination] = {}  # by row

    def check(self, *, trains: bool = True) -> None:
        """Finds out whether all of it can be done; writes nothing.

        Args:
          trains: whether what training needs is looked at too.

        Raises:
          InputError: if the folder is another ablation's, or data or programs are not there.
        """
        if workdir.is_remote(self.folder):
            raise InputError(
                f"workdir {self.folder}: masks and scores are written to this machine's disks"
                " alone; give a local folder"
            )
        if not (ROOT / "train.py").exists():
            raise InputError(
                f"no train.py beside {ROOT / 'qmra_jax'}: an ablation runs it; use a checkout of"
                " the repository"
            )
        workdir.check_run(epath.Path(self.folder), self._common(), FREE)
        others = _others(self.folder)
        if others and not (self.folder / "config.json").exists():
            raise InputError(
                f"workdir {self.folder} holds {others[0]} and no ablation: give a new or an empty"
                " folder"
            )
        for training in self.plan.trainings(self.plan.runs):
            config = self.plan.config(training)
            workdir.check_run(epath.Path(self.path(training)), config)
            if self.plan.init_from and not (Path(config.init_from) / "checkpoints").is_dir():
                raise InputError(
                    f"--init_from={self.plan.init_from} has no {training}: expected"
                    f" {config.init_from}/checkpoints"
                )
        left = [t for t in self.plan.trainings(self.plan.runs) if not self.is_trained(t)]
        if left and trains:
            self._check_training(left)
        opened: dict[str, Examination] = {}  # by what it depends on
        for row in self.plan.rows:
            config = self.plan.configs[row]
            key = json.dumps(workdir.plain(config)["eval"])
            if key not in opened:
                opened[key] = examination(config)
            self._examinations[row] = opened[key]

    def claim(self) -> None:
        """Makes the folder this ablation's. To be called after `check`."""
        make_folder(self.folder, advice=workdir.ADVICE)
        workdir.claim(epath.Path(self.folder), self._common())

    def path(self, run: Run) -> Path:
        """What belongs to this run alone."""
        return run_folder(self.folder, run.row, run.seed)

    def others(self) -> list[tuple[str, int]]:
        """Rows and seeds that lie evaluated in the folder, of this plan or of another command."""
        records = sorted(self.folder.glob("*/seed*/evaluation.json"))
        found = [(path.parts[-3], path.parts[-2].removeprefix("seed")) for path in records]
        return [(row, int(seed)) for row, seed in found if row in ABLATIONS and seed.isdecimal()]

    # ---------------------------------------------------------------- training

    def steps_done(self, training: Run) -> int:
        """The step of a training's newest checkpoint; 0 without."""
        folder = self.path(training) / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def is_trained(self, training: Run) -> bool:
        """Whether all of its steps are done."""
        return self.steps_done(training) >= self.plan.config(training).steps

    def step_now(self, training: Run) -> int:
        """The last step that a training has told of."""
        path = self.path(training) / "metrics.jsonl"
        lines = path.read_bytes()[-2000:].splitlines() if path.exists() else []
        steps = [int(found[1]) for line in lines if (found := _STEP.match(line))]
        return steps[-1] if steps else 0

    def training_seconds(self, training: Run) -> tuple[float, bool]:
        """What its training took so far, and whether that is all.

        It is not where this program was killed while it trained.
        """
        record = _read(self.path(training) / "training.json")
        return record.get("seconds", 0.0), not record.get("partial", True)

    def train(self, training: Run, tick: Callable[[], Any]) -> str:
        """Trains, or goes on with it; gives "" or why it is not done."""
        folder = self.path(training)
        command = [str(ROOT / "train.py"), *self.plan.arguments(training), f"--workdir={folder}"]
        make_folder(folder, advice=workdir.ADVICE)
        with child.only_one(folder / "lock") as lock:
            if lock is None:
                return "another process is at it"
            record = _read(folder / "training.json")
            before = record.get("seconds", 0.0)
            lost = record.get("partial", False)  # a time that was never noted stays unknown
            _write(folder / "training.json", {"seconds": before, "partial": True})
            began = time.perf_counter()
            log = folder / "train.log"
            status = self._start([sys.executable, *command], log, lock=lock, tick=tick)
            seconds = before + time.perf_counter() - began
            _write(folder / "training.json", {"seconds": seconds, "partial": lost})
        if status == preemption.STOPPED:
            return "stopped and saved"
        if status == 0 and not self.is_trained(training):
            return f"ended before its last step: see {log}"
        return child.failure(status, log)

    # -------------------------------------------------------------- evaluation

    def scores(self, run: Run) -> dict[str, Any] | None:
        """A run's scores, evaluate.py's; None if there are none of these weights and settings."""
        record = _read(self.path(run) / "evaluation.json")
        made_with = self.made_with(run)
        return record["scores"] if made_with and record.get("made_with") == made_with else None

    def evaluation_seconds(self, run: Run) -> float | None:
        """What its evaluation took; None if that is not done."""
        return _read(self.path(run) / "evaluation.json")["seconds"] if self.scores(run) else None

    def made_with(self, run: Run) -> dict[str, Any] | None:
        """What a run's scores depend on; None while it is not trained."""
        training = self.plan.training(run)
        newest = self.path(training) / "checkpoints" / str(self.steps_done(training))
        if not self.is_trained(training):
            return None
        found = self._examinations[run.row]
        return {
            "trained_as": training.row,
            # It tells when the checkpoint was written, so another training is another.
            "checkpoint": digest((newest / "_CHECKPOINT_METADATA").read_bytes()),
            "version": segmenter.package_version(),
            "data": found.data,
            "arguments": list(found.arguments),
        }

    def evaluate(self, run: Run, tick: Callable[[], Any]) -> str:
        """Evaluates, or goes on with it; gives "" or why it is not done."""
        folder, log = self.path(run), self.path(run) / "evaluate.log"
        made_with = self.made_with(run)
        assert made_with is not None
        make_folder(folder, advice=workdir.ADVICE)
        command = [
            str(ROOT / "evaluate.py"),
            f"--workdir={self.path(self.plan.training(run))}",
            f"--data_dir={self._examinations[run.row].folder}",
            f"--output={folder / 'results'}",
            *made_with["arguments"],
            *self._overwrite,
        ]
        with child.only_one(folder / "lock") as lock:
            if lock is None:
                return "another process is at it"
            began = time.perf_counter()
            status = self._start([sys.executable, *command], log, lock=lock, tick=tick)
            seconds = time.perf_counter() - began
        if status:
            return child.failure(status, log)
        scores = json.loads((folder / "results" / "scores.json").read_text())
        del scores["sequences"]
        record = {"made_with": made_with, "seconds": seconds, "scores": scores}
        _write(folder / "evaluation.json", record)
        return ""

    # ----------------------------------------------------------------- private

    def _check_training(self, left: Sequence[Run]) -> None:
        """What train.py would refuse after some seconds, once for every row."""
        for training in left:
            model = build_model(self.plan.config(training).model)
            variable_shapes(model)  # which meets what an option's value cannot be
        config = self.plan.config(left[-1])
        for name in ("steps", "batch_size"):
            if config[name] < 1:
                raise InputError(f"{name} {config[name]}: expected at least 1")
        make_optimizer(config.optimizer, config.steps)
        open_examples(config.data, seed=0, global_batch=config.batch_size)
        initialization.check(model, config, epath.Path(self.path(left[-1])))

    def _common(self) -> ConfigDict:
        config = self.plan.configs["full"].copy_and_resolve_references()
        if self.plan.init_from:
            config.init_from = self.plan.init_from
        return config


def shard(runs: Sequence[Run], index: int, count: int) -> list[Run]:
    """The part of the trainings that host `index` (from 1) of `count` is to do."""
    return list(runs)[index - 1 :: count]


def _others(folder: Path) -> list[str]:
    """What lies in a folder and is no row's."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name not in ABLATIONS]


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
