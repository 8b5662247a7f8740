"""User input errors: shown as one line on standard error, exit status 2."""

import contextlib
import importlib.util
import operator
import re
import sys
from collections.abc import Callable, Iterator


class InputError(ValueError):
    """Bad user input; the message says what was given, what was expected and what to do."""


def whole_number(value, name: str, least: int, unit: str = "") -> int:
    """Converts an integer of Python or NumPy to int and checks its lower bound.

    Args:
      value: an integer; floats are refused even if whole.
      name: what the message calls it.
      least: smallest allowed value.
      unit: follows `least` in the message, such as " pixels".

    Raises:
      InputError: if `value` is not an integer or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(
            f"{name} {value!r}: expected a whole number, at least {least}{unit}"
        ) from None
    if number < least:
        raise InputError(f"{name} {number}: expected at least {least}{unit}")
    return number


def require_packages(user: str, *packages: str, extra: str) -> None:
    """Checks that optional packages are installed, without importing them.

    Args:
      user: what needs them, such as a command, for the message.
      packages: import names.
      extra: the extra of qmra-jax that installs them.

    Raises:
      InputError: if one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'{user} needs {" and ".join(missing)}: pip install "qmra-jax[{extra}]"')


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turns an `InputError` into one line on standard error and exit status 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run_app(main: Callable[[list[str]], int | None]) -> None:
    """Runs an absl program: an `InputError` or a bad flag is one line and exit status 2.

    Args:
      main: takes the remaining arguments and returns the exit status; None is 0.
    """
    from absl import app, flags

    def parse(arguments: list[str]) -> list[str]:
        try:
            remaining = flags.FLAGS(arguments)
            if "config" in flags.FLAGS and flags.FLAGS.config is not None:
                _ = flags.FLAGS.config.seed  # loads the file, which ml_collections puts off
            return remaining
        except SystemExit:  # --help: absl exits with status 1
            raise SystemExit(0) from None
        except (AttributeError, KeyError) as error:  # an unknown key of the config
            text = str(error)
            key = re.sub(r"\\n.*|[\"'\\]", "", text)
            hint = re.search(r'Did you mean \\*"(\w+)', text)
            advice = f"did you mean {hint[1]!r}?" if hint else "configs/common.py lists them all"
            raise InputError(f"config key {key!r} does not exist: {advice}") from None
        except (flags.Error, OSError) as error:
            raise InputError(_without_traceback(str(error))) from None

    with exit_on_input_error():
        app.run(main, flags_parser=parse)


def _without_traceback(text: str) -> str:
    """Shortens what ml_collections says of a config file that is missing or raises."""
    if missing := re.search(r"No such file or directory: '(.*?)'", text):
        return f"config {missing[1]} not found: expected a file such as configs/small.py"
    before, traceback, _ = text.partition("Error whilst parsing config file:")
    if traceback:
        text = before + text.strip().splitlines()[-1].removeprefix("ValueError: ")
    return " ".join(text.split())
