"""The commands on the pages of documentation: their programs, options, configs and keys exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from configs import common
from qmra_jax.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def commands(page):
    """Each line of the page's code blocks that runs a program of ours, as its arguments."""
    text = page.read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL) + re.findall(
        r"(?:^    .*\n)+", text, re.M
    )
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        line = re.sub(r"[;&|<>]", " ; ", line)
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that another line closes
            words = line.split()
        for k, word in enumerate(words):
            if Path(word).name in ("qmra", "train.py", "evaluate.py", "make", "-m"):
                end = words.index(";", k) if ";" in words[k:] else None
                yield words[k:end]
                break


COMMANDS = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")
    for page in PAGES
    for words in commands(page)
]


def options(words):
    return [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]


def check_qmra(words):
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0] == "--plugin":
            words = words[2:]
        command, *words = command.commands[words[0]], *words[1:]
    known = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    assert set(options(words)) <= known


def check_training(words):
    """train.py's flags are absl's."""
    known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "train.py").read_text())
    for option in options(words):
        name, *keys = option.removeprefix("--").split(".")
        assert name in known
        field = common.get_config()
        for key in keys:
            field = field[key]
    for config in re.findall(r"--config=(configs/\w+\.py)", " ".join(words)):
        assert (ROOT / config).is_file()


def check_module(name, words):
    """Of a program of argparse or absl: the options' names stand in its source."""
    path = ROOT / name.replace(".", "/")
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else path.rglob("*.py")
    source = "".join(file.read_text() for file in files)
    assert source, name
    if name == "benchmarks.selection":  # hands the others on
        source += (ROOT / "evaluate.py").read_text()
    for option in options(words):
        if not option.startswith("--config."):
            assert f'"{option}"' in source or f'"{option[2:]}"' in source, option


@pytest.mark.parametrize("words", COMMANDS)
def test_documented_commands_exist(words):
    program, *rest = words
    program = Path(program).name
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert not rest or rest[0] in targets
    elif program == "qmra":
        check_qmra(rest)
    elif program == "train.py":
        check_training(rest)
    elif rest[0] != "pytest":
        check_module("evaluate" if program == "evaluate.py" else rest[0], rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
