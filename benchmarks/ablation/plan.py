"""What an ablation is made of: rows and seeds, their configs, and which training serves which."""

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

NAMED = {"table3": TABLE_3, "all": tuple(ABLATIONS)}  # lists of rows that have a name


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with one seed.

    Attributes:
      row: a name of `ABLATIONS`.
      seed: of the weights, the data and their order.
    """

    row: str
    seed: int

    @property
    def training(self) -> "Run":
        """The run that trains for this one: the first that differs in `config.eval` alone."""
        first = next(row for row in ABLATIONS if _trained_by(row) == _trained_by(self.row))
        return Run(first, self.seed)

    def folder(self, workdir: Path) -> Path:
        """What belongs to this run alone."""
        return workdir / self.row / f"seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which rows with which seeds, at which settings.

    Attributes:
      rows: names of `ABLATIONS`, in the order in which they are trained.
      seeds: of each.
      base: what the rows change, as in configs/ablations.py: "small", "pretrain_static:coco".
      overrides: "--config.NAME=VALUE", for all rows.
      init_from: folder of an earlier ablation whose weights each row begins with; "" for none.
    """

    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    base: str = "small"
    overrides: tuple[str, ...] = ()
    init_from: str = ""

    @property
    def runs(self) -> list[Run]:
        """Seed by seed, so that an interrupted ablation has whole tables of fewer seeds."""
        return [Run(row, seed) for seed in self.seeds for row in self.rows]

    def trainings(self) -> dict[Run, list[Run]]:
        """Each training that is needed, with the runs it serves."""
        served: dict[Run, list[Run]] = {}
        for run in self.runs:
            served.setdefault(run.training, []).append(run)
        return served

    def common(self) -> ConfigDict:
        """What all runs have in common: the config of "full"."""
        config = _parse("full", self.base, self.overrides).copy_and_resolve_references()
        config.init_from = self.init_from or config.init_from
        return config

    def config(self, run: Run) -> ConfigDict:
        """What a run is evaluated with, and trained with unless another trains for it.

        Raises:
          InputError: if the row, the base or an override is not to be had.
        """
        overrides = tuple(self._overrides(run))
        return _parse(run.row, self.base, overrides).copy_and_resolve_references()

    def arguments(self, run: Run) -> list[str]:
        """train.py's, but for --workdir."""
        return [f"--config={ablations.__file__}:{run.row}@{self.base}", *self._overrides(run)]

    def command(self) -> str:
        """What makes this plan again, without its folder."""
        rows = {rows: name for name, rows in NAMED.items()}.get(self.rows, ",".join(self.rows))
        options = [f"--configs={rows}", f"--seeds={','.join(map(str, self.seeds))}"]
        options += [f"--base={self.base}"]
        options += [f"--init_from={self.init_from}"] if self.init_from else []
        text = shlex.join([*options, *self.overrides])
        if data := os.environ.get("QMRA_DATA"):  # which the shell has put in the place of its name
            text = text.replace(data, "$QMRA_DATA")
        return f"python -m benchmarks.ablation {text}"

    def _overrides(self, run: Run) -> list[str]:
        of_run = [f"--config.seed={run.seed}"]
        if self.init_from:
            of_run.append(f"--config.init_from={run.training.folder(Path(self.init_from))}")
        return [*self.overrides, *of_run]


def make_plan(
    rows: str = "table3",
    seeds: str = "0",
    base: str = "small",
    overrides: Sequence[str] = (),
    init_from: str = "",
) -> Plan:
    """The plan of a command line.

    Args:
      rows: names of `ABLATIONS` with commas, or one of `NAMED`.
      seeds: whole numbers with commas.
      base: see `Plan`.
      overrides: see `Plan`.
      init_from: see `Plan`.

    Raises:
      InputError: if there is no such row, seed, base or setting; or if an override changes what a
        row is.
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
        for name in names:
            if key in ABLATIONS[name]:
                raise InputError(
                    f"{override}: row {name} is a change of {key} itself; leave one of them out"
                )
    start = configs[0].init_from
    if start and not init_from and len({str(plain(config.model)) for config in configs}) > 1:
        raise InputError(
            f"init_from {start!r} is one network's, and the rows are several: give --init_from=DIR"
            " of an ablation that trained each of them, or --config.init_from= for none"
        )
    return plan


def _trained_by(row: str) -> dict[str, object]:
    """What a row changes in training."""
    return {key: value for key, value in ABLATIONS[row].items() if not key.startswith("eval.")}


@functools.cache
def _parse(row: str, base: str, overrides: tuple[str, ...]) -> ConfigDict:
    """A row's config; it is shared, and not to be changed."""
    try:
        config = ablations.get_config(f"{row}@{base}")
        values, arguments = flags.FlagValues(), ["ablate", *overrides]
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except AttributeError as error:  # how ml_collections refuses a key
        raise InputError(f"config key {' '.join(str(error).split())}") from None
    except (ValueError, flags.Error) as error:
        raise InputError(" ".join(str(error).split())) from None
    return config
