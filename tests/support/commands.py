"""Runs the `qmra` command within a test."""

import pytest

from qmra_jax import cli


def qmra(*arguments) -> int:
    """The exit status of `qmra ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code or 0


def refused(capsys, *arguments) -> str:
    """The one line that `qmra ARGUMENTS` prints when it ends with status 2."""
    capsys.readouterr()
    assert qmra(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line
