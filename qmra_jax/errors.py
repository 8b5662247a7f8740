"""What a user did that cannot be done, told in one line, with exit status 2."""

import contextlib
import importlib.util
import operator
import sys
from collections.abc import Callable, Iterator

_QUOTES = "\"'"


class InputError(ValueError):
    """Bad input: the message names what was given, what was expected and what to do about it."""


def whole_number(value, name: str, least: int, what: str = "") -> int:
    """The value as an int, once it is known to be whole and large enough.

    Args:
      value: an int, Python's or NumPy's; a float is none, even if it is whole.
      name: of what it is, for the message.
      least: it may be.
      what: follows the least value in the message: a unit, or why.

    Raises:
      InputError: if it is not.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(
            f"{name} {value!r}: expected a whole number, at least {least}{what}"
        ) from None
    if number < least:
        raise InputError(f"{name} {number}: expected at least {least}{what}")
    return number


def require_packages(what: str, *packages: str, extra: str) -> None:
    """Finds out whether packages of an optional extra are installed; imports none of them.

    Args:
      what: needs them, such as a command.
      packages: names to import.
      extra: of this project, which installs them.

    Raises:
      InputError: if one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'{what} needs {" and ".join(missing)}: pip install "qmra-jax[{extra}]"')


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turns an `InputError` into one line on standard error and exit status 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _without_traceback(text: str) -> str:
    """What ml_collections tells of a config file that raises, less the file's whole traceback."""
    before, traceback, _ = text.partition("Error whilst parsing config file:")
    if traceback:
        text = before + text.strip().splitlines()[-1].removeprefix("ValueError: ")
    return " ".join(text.split())


def run_app(main: Callable[[list[str]], int | None]) -> None:
    """Runs a program of absl flags; bad input or a bad flag is one line and exit status 2.

    `main` may return another exit status; None is 0.
    """
    from absl import app, flags

    def parse(arguments: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(arguments)
            if "config" in flags.FLAGS and flags.FLAGS.config is not None:
                _ = flags.FLAGS.config.seed  # a file that cannot be loaded shows when it is used
            return rest
        except SystemExit:  # --help, which absl ends with status 1
            raise SystemExit(0) from None
        except AttributeError as error:  # how ml_collections refuses a key
            raise InputError(
                f"config key {str(error).strip(_QUOTES)!r}: there is none of this name;"
                " configs/common.py has them all"
            ) from None
        except (flags.Error, OSError) as error:
            raise InputError(_without_traceback(str(error))) from None

    with exit_on_input_error():
        app.run(main, flags_parser=parse)
