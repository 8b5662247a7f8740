"""Benchmark results as Markdown tables and, with --json FILE, as data."""

import argparse
import dataclasses
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmra_jax.errors import InputError, exit_on_input_error
from qmra_jax.files import written_whole


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text and numbers."""

    title: str
    columns: Sequence[str]  # heads, with units
    rows: Sequence[Sequence[Any]]
    note: str = ""  # how it was measured

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> "Table":
        """A table of rows by column."""
        return cls(title, list(rows[0]), [list(row.values()) for row in rows], note)

    def markdown(self) -> str:
        """The table with its title; columns of numbers are right-aligned."""
        numbers = [
            all(isinstance(row[i], int | float) for row in self.rows)
            for i in range(len(self.columns))
        ]
        lines = [self.columns, ["---:" if right else "---" for right in numbers], *self.rows]
        table = ["| " + " | ".join(map(_shown, line)) + " |" for line in lines]
        return "\n".join([f"**{self.title}**", "", *table, *(["", self.note] if self.note else [])])


def machine() -> str:
    """The machine in words: "2-core x86-64 CPU"."""
    return f"{os.cpu_count()}-core {platform.machine().replace('_', '-')} CPU"


def load() -> str:
    """The load average, to judge whether other programs disturbed the measurement."""
    one, five, _ = os.getloadavg()
    return f"{one:.1f} (1 minute), {five:.1f} (5 minutes)"


def run_benchmark(
    name: str,
    about: str,
    options: Callable[..., None],
    measure: Callable[[argparse.Namespace], tuple[Mapping[str, str], Sequence[Table]]],
    arguments: Sequence[str] | None = None,
) -> None:
    """The command `python -m benchmarks.NAME`: measures, prints and, with --json FILE, writes.

    `options` adds the benchmark's options by the parser's `add_argument`; `measure` takes their
    values and returns facts that apply to all tables, and the tables.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options(parser.add_argument)
    parser.add_argument("--json", default="", metavar="FILE", help="also write the results there")
    args = parser.parse_args(arguments)
    with exit_on_input_error():
        if args.json and not Path(args.json).parent.is_dir():
            raise InputError(f"--json={args.json}: expected a file in an existing folder")
        before = load()
        facts, tables = measure(args)
        arguments = sys.argv[1:] if arguments is None else arguments
        facts = {
            "command": shlex.join(["python", "-m", f"benchmarks.{name}", *arguments]),
            "machine": machine(),
            **facts,
            "load before": before,
            "load after": load(),
        }
        print(*(f"- {key}: {value}" for key, value in facts.items()), sep="\n")
        for table in tables:
            print(f"\n{table.markdown()}")
        if args.json:
            content = {"about": facts, "tables": [dataclasses.asdict(table) for table in tables]}
            with written_whole(Path(args.json)) as part:
                part.write_text(json.dumps(content, indent=1) + "\n")


def check_least(args: argparse.Namespace, **least: int) -> None:
    """Raises `InputError` if an option's number, or one of its numbers, is too small."""
    for name, minimum in least.items():
        value = getattr(args, name)
        for number in value if isinstance(value, list) else [value]:
            if number < minimum:
                raise InputError(f"--{name}={number}: expected at least {minimum}")


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) < 20 else f"{value:,.0f}"
