"""What an ablation is made of: rows and seeds, their configs, and which training serves which."""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import ablations
from configs.ablations import ABLATIONS, TABLE_3, get_config
from qmra_jax.errors import InputError
from qmra_jax.training.workdir import FREE, plain

_PLAIN = re.compile(r"[\w$@%+=:,./-]+")  # what a shell takes as it is
NAMED = {"table3": TABLE_3, "all": tuple(ABLATIONS)}  # lists of rows that have a name


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with one seed.

    Attributes:
      row: a name of `ABLATIONS`.
      seed: of the weights, the data and their order.
      trained_as: the row whose training serves it: itself, or the first one that differs in
        `config.eval` alone.
    """

    row: str
    seed: int
    trained_as: str

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which rows with which seeds, at which settings.

    Attributes:
      base: what the rows change, as in configs/ablations.py: "small", "pretrain_static:coco".
      overrides: "--config.NAME=VALUE", for all rows.
      rows: in the order in which they are trained.
      seeds: of each.
      init_from: folder of an earlier ablation whose weights each row begins with; "" for none.
      configs: of each row that is asked for or trains for one, at seed 0.
      runs: seed by seed, so that an interrupted ablation has whole tables of fewer seeds.
    """

    base: str
    overrides: tuple[str, ...]
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    init_from: str
    configs: dict[str, ConfigDict]
    runs: tuple[Run, ...]

    def config(self, run: Run) -> ConfigDict:
        """What a run is evaluated with, and trained with unless another trains for it."""
        config = self.configs[run.row].copy_and_resolve_references()
        config.update_from_flattened_dict(dict(self._of_seed(run)))
        return config

    def training(self, run: Run) -> Run:
        """The run that trains for this one; itself, unless it differs in inference alone."""
        return Run(run.trained_as, run.seed, run.trained_as)

    def trainings(self, runs: Sequence[Run]) -> dict[Run, list[Run]]:
        """Each training that is needed, with the runs it serves."""
        served: dict[Run, list[Run]] = {}
        for run in runs:
            served.setdefault(self.training(run), []).append(run)
        return served

    def arguments(self, run: Run) -> list[str]:
        """train.py's, but for --workdir."""
        of_seed = [f"--config.{name}={value}" for name, value in self._of_seed(run)]
        config = f"--config={ablations.__file__}:{run.row}@{self.base}"
        return [config, *self.overrides, *of_seed]

    def command(self) -> str:
        """What makes this plan again, without its folder."""
        rows = next((name for name, rows in NAMED.items() if rows == self.rows), "")
        options = [
            f"--configs={rows or ','.join(self.rows)}",
            f"--seeds={','.join(map(str, self.seeds))}",
            f"--base={self.base}",
            *([f"--init_from={self.init_from}"] if self.init_from else []),
        ]
        parts = [*options, *self.overrides]
        if data := os.environ.get("QMRA_DATA"):  # which the shell has put in the place of its name
            parts = [part.replace(data, "$QMRA_DATA") for part in parts]
        quoted = [part if _PLAIN.fullmatch(part) else f'"{part}"' for part in parts]
        return " ".join(["python -m benchmarks.ablation", *quoted])

    def _of_seed(self, run: Run) -> list[tuple[str, Any]]:
        values: list[tuple[str, Any]] = [("seed", run.seed)]
        if self.init_from:
            source = run_folder(Path(self.init_from), run.trained_as, run.seed)
            values.append(("init_from", str(source)))
        return values


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
      InputError: if there is no such row, seed, base or setting; if one is there twice; or if an
        override undoes what a row is.
    """
    names = NAMED.get(rows) or tuple(_once("row", rows, str))
    if unknown := [name for name in names if name not in ABLATIONS]:
        raise InputError(
            f"row {unknown[0]!r} of --configs: expected some of {', '.join(ABLATIONS)}, or"
            f" {' or '.join(NAMED)}"
        )
    numbers = tuple(_once("seed", seeds, _seed))
    for override in overrides:
        name = _key(override)
        if name == "seed":
            raise InputError(f"{override}: give --seeds={override.partition('=')[2]} instead")
        if name == "init_from" and init_from:
            raise InputError(f"{override} and --init_from={init_from}: expected one of them")
    settled = {name: _settle(name, base, tuple(overrides)) for name in ABLATIONS}
    for name in names:
        for key, value in ABLATIONS[name].items():
            if (now := _value(settled[name], key)) != value:
                raise InputError(
                    f"--config.{key}={now} undoes row {name}, which is {key}={value}: leave one of"
                    " them out"
                )
        if ABLATIONS[name] and plain(settled[name]) == plain(settled["full"]):
            changed = ", ".join(ABLATIONS[name])
            raise InputError(
                f"row {name} is no other than full, as --config changes {changed} for all rows:"
                " leave one of them out"
            )
    _check_start(names, settled, init_from)
    kept = [
        n for n in ABLATIONS if all(_value(settled[n], k) == v for k, v in ABLATIONS[n].items())
    ]
    trained_as = {name: _first_like(name, kept, settled) for name in names}
    return Plan(
        base,
        tuple(overrides),
        names,
        numbers,
        init_from,
        {name: settled[name] for name in dict.fromkeys([*names, *trained_as.values(), "full"])},
        tuple(Run(name, seed, trained_as[name]) for seed in numbers for name in names),
    )


def run_folder(workdir: Path, row: str, seed: int) -> Path:
    """Where a row's training with a seed lies, or what belongs to it alone."""
    return workdir / row / f"seed{seed}"


def _settle(name: str, base: str, overrides: tuple[str, ...]) -> ConfigDict:
    """A row's config with what is changed for all of them."""
    try:
        config = get_config(f"{name}@{base}")
    except ValueError as error:
        raise InputError(str(error)) from None
    values = flags.FlagValues()
    arguments = ["ablate", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except AttributeError:  # how ml_collections refuses a key
        key = next(key for key in map(_key, overrides) if not _has(config, key))
        raise InputError(
            f"config key {key!r}: there is none of this name; configs/common.py has them all"
        ) from None
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from None
    config.seed = 0
    return config


def _first_like(name: str, among: Sequence[str], settled: dict[str, ConfigDict]) -> str:
    """The first row whose training is this one's too."""
    return next(other for other in among if _trained(settled[other]) == _trained(settled[name]))


def _trained(config: ConfigDict) -> str:
    """All that the trained weights depend on."""
    values = plain(config)
    for key in FREE:
        *groups, last = key.split(".")
        functools.reduce(dict.__getitem__, groups, values).pop(last, None)
    return json.dumps(values, sort_keys=True)


def _check_start(names: Sequence[str], settled: dict[str, ConfigDict], init_from: str) -> None:
    """One network's weights are no fair start for others, and most of them cannot take them."""
    start = settled[names[0]].init_from
    if start and not init_from and len({str(plain(settled[name].model)) for name in names}) > 1:
        raise InputError(
            f"init_from {start!r} is one network's, and the rows are several: give --init_from=DIR"
            " of an ablation that trained each of them, or --config.init_from= for none"
        )


def _key(override: str) -> str:
    return override.removeprefix("--config.").partition("=")[0]


def _has(config: ConfigDict, key: str) -> bool:
    try:
        _value(config, key)
    except (KeyError, TypeError):
        return False
    return True


def _value(config: ConfigDict, key: str) -> Any:
    return functools.reduce(lambda node, name: node[name], key.split("."), config)


def _once(what: str, text: str, read) -> list:
    values = [read(part.strip()) for part in text.split(",")]
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise InputError(f"{what} {twice[0]} is there twice: name each once")
    return values


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"seed {text!r} of --seeds: expected whole numbers, such as 0,1,2")
    return int(text)
