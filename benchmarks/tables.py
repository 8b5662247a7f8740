"""How a benchmark tells what it found: Markdown tables, and with --json FILE the same as data."""

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qmra_jax.errors import InputError
from qmra_jax.files import written_whole


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text and numbers.

    Attributes:
      title: what was measured.
      columns: the heads, with their units.
      rows: as long as `columns` each.
      note: what a reader must know to trust it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def markdown(self) -> str:
        """The table with its title; columns of numbers stand to the right."""
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
    """How busy the machine is: the average number of runnable threads of the last 1 and 5 minutes.

    What else runs there takes time from what is measured.
    """
    one, five, _ = os.getloadavg()
    return f"{one:.1f} (1 minute), {five:.1f} (5 minutes)"


def check_output(path: str) -> None:
    """Refuses what `report` could not write, before anything is measured.

    Raises:
      InputError: if a path is given whose folder is missing.
    """
    if path and not Path(path).parent.is_dir():
        raise InputError(f"--json={path}: expected a file in a folder that exists")


def report(about: dict[str, str], tables: Sequence[Table], path: str = "") -> None:
    """Prints what was measured where, then the tables; writes both to a JSON file if asked.

    Args:
      about: what holds for all tables, such as the command, the machine and its load.
      tables: the results.
      path: of the JSON file; empty for none.
    """
    print(*(f"- {name}: {value}" for name, value in about.items()), sep="\n")
    for table in tables:
        print(f"\n{table.markdown()}")
    if path:
        content = {"about": about, "tables": [dataclasses.asdict(table) for table in tables]}
        with written_whole(Path(path)) as part:
            part.write_text(json.dumps(content, indent=1) + "\n")


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) < 20 else f"{value:,.0f}"
