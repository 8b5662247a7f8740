"""docs/new_aggregator.md does what it says: its code is run, in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/new_aggregator.md").read_text()
BLOCKS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the page's code added to it."""
    copy = tmp_path_factory.mktemp("tutorial")
    for name in ("qmra_jax", "configs", "data_pipeline", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "evaluate.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    for name, code in BLOCKS:
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else ""
        path.write_text(before + code)
    return copy


def run(project, command, *more):
    arguments = command.replace("$PWD", str(project)).split()
    assert arguments[0] == ".venv/bin/python"
    done = subprocess.run(
        [sys.executable, *arguments[1:], *more], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command(part):
    """The page's command that has this in it."""
    (found,) = [line for line in COMMANDS if part in line]
    return found


def test_it_is_as_short_as_promised():
    lines = [line for _, code in BLOCKS for line in code.splitlines() if line.strip()]
    assert 20 < len(lines) < 60


def test_its_aggregator_passes_its_own_test(project):
    assert "1 passed" in run(project, command("test_aggregation"), "-p", "no:cacheprovider")


def test_its_row_would_be_trained_beside_the_paper_s(project):
    run(project, command("data_pipeline.synthetic"))
    told = run(project, command("--workdir=runs/gated"), "--dry_run")
    for row in ("full", "no_bca", "gated"):
        assert re.search(rf"^ *{row} seed 0 +to train$", told, re.MULTILINE)


@pytest.mark.slow
def test_its_table_has_the_three_rows(project):
    if not (project / "runs/videos").exists():
        run(project, command("data_pipeline.synthetic"))
    run(project, command("--workdir=runs/gated"), "--config.steps=4")
    table = (project / "runs/gated/table.md").read_text()
    assert all(re.search(rf"\| {row} +\|", table) for row in ("full", "no_bca", "gated"))
