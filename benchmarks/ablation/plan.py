"""The runs of an ablation: rows and seeds, their configs, and which runs share a training."""

import dataclasses
import functools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import ablations
from configs.ablations import ABLATIONS, TABLE_3
from qmra_jax.errors import InputError
from qmra_jax.training.workdir import plain

NAMED = {"table3": TABLE_3, "all": tuple(ABLATIONS)}  # names for lists of rows


@dataclasses.dataclass(frozen=True)
class Run:
    """A row of `ABLATIONS` with one seed, which determines weights and data order."""

    row: str
    seed: int

    @property
    def training(self) -> "Run":
        """The run whose training this one uses: the first that differs in `config.eval` at most."""
        return Run(next(row for row in ABLATIONS if _trained(row) == _trained(self.row)), self.seed)

    def folder(self, workdir: Path) -> Path:
        """The folder of this run alone."""
        return workdir / self.row / f"seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Rows, seeds and common settings."""

    rows: tuple[str, ...]  # names of `ABLATIONS`, in training order
    seeds: tuple[int, ...]  # of each row
    base: str = "small"  # the config that rows change: "pretrain_static:coco"
    overrides: tuple[str, ...] = ()  # "--config.NAME=VALUE", for all rows
    init_from: str = ""  # folder of an earlier ablation whose weights each row starts from

    @property
    def runs(self) -> list[Run]:
        """Seed by seed, so that an interrupted ablation has whole tables of fewer seeds."""
        return [Run(row, seed) for seed in self.seeds for row in self.rows]

    def trainings(self) -> dict[Run, list[Run]]:
        """The trainings needed, each with the runs that use it."""
        runs: dict[Run, list[Run]] = {}
        for run in self.runs:
            runs.setdefault(run.training, []).append(run)
        return runs

    def common(self) -> ConfigDict:
        """The config that all runs share: that of "full"."""
        config = _parse("full", self.base, self.overrides).copy_and_resolve_references()
        config.init_from = self.init_from or config.init_from
        return config

    def config(self, run: Run) -> ConfigDict:
        """The config of a run; `InputError` if its row, base or an override does not exist."""
        overrides = tuple(self._overrides(run))
        return _parse(run.row, self.base, overrides).copy_and_resolve_references()

    def arguments(self, run: Run) -> list[str]:
        """The arguments of train.py, without --workdir."""
        return [f"--config={ablations.__file__}:{run.row}@{self.base}", *self._overrides(run)]

    def command(self) -> str:
        """The command that makes this plan, without --workdir."""
        rows = {rows: name for name, rows in NAMED.items()}.get(self.rows, ",".join(self.rows))
        seeds = ",".join(map(str, self.seeds))
        options = [f"--configs={rows}", f"--seeds={seeds}", f"--base={self.base}"]
        options += [f"--init_from={self.init_from}"] if self.init_from else []
        text = shlex.join([*options, *self.overrides])
        if data := os.environ.get("QMRA_DATA"):  # the shell has expanded it
            text = text.replace(data, "$QMRA_DATA")
        return f"python -m benchmarks.ablation {text}"

    def _overrides(self, run: Run) -> list[str]:
        overrides = [*self.overrides, f"--config.seed={run.seed}"]
        if self.init_from:
            start = run.training.folder(Path(self.init_from))
            overrides.append(f"--config.init_from={start}")
        return overrides


def make_plan(
    rows: str = "table3",
    seeds: str = "0",
    base: str = "small",
    overrides: Sequence[str] = (),
    init_from: str = "",
) -> Plan:
    """Parses the options of a command line: rows (or one of `NAMED`) and seeds with commas.

    Raises:
      InputError: if a row, seed, base or setting does not exist, or rows cannot be compared.
    """
    names = tuple(dict.fromkeys(NAMED.get(rows) or rows.split(",")))
    numbers = tuple(dict.fromkeys(seeds.split(",")))
    for number in numbers:
        if not number.isdecimal():
            raise InputError(f"seed {number!r} of --seeds: expected whole numbers, such as 0,1,2")
    plan = Plan(names, tuple(map(int, numbers)), base, tuple(overrides), init_from)
    configs = [plan.config(run) for run in plan.runs]
    for override in overrides:
        key = override.removeprefix("--config.").partition("=")[0]
        if key == "seed":
            raise InputError(f"{override}: give --seeds instead")
        if key == "init_from" and init_from:
            raise InputError(f"{override} and --init_from={init_from}: expected one of them")
        if name := next((name for name in names if key in ABLATIONS[name]), ""):
            raise InputError(f"{override}: row {name} changes {key} itself; leave out one of them")
    start = configs[0].init_from
    if start and not init_from and len({str(plain(config.model)) for config in configs}) > 1:
        raise InputError(
            f"init_from {start!r} fits one network, but the rows are several: give --init_from=DIR"
            " of an ablation that trained each of them, or --config.init_from= for none"
        )
    return plan


def _trained(row: str) -> dict[str, object]:
    """What a row changes in training."""
    return {key: value for key, value in ABLATIONS[row].items() if not key.startswith("eval.")}


@functools.cache
def _parse(row: str, base: str, overrides: tuple[str, ...]) -> ConfigDict:
    """A row's config, cached: copy it before changing it."""
    try:
        config = ablations.get_config(f"{row}@{base}")
        values, arguments = flags.FlagValues(), ["ablate", *overrides]
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except AttributeError as error:  # an unknown key
        raise InputError(f"config key {' '.join(str(error).split())}") from None
    except (ValueError, flags.Error) as error:
        raise InputError(" ".join(str(error).split())) from None
    return config
