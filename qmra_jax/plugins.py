"""Plugins: readers, aggregators, refiners, priors and datasets without a fork.

A plugin is a Python module that adds entries to a table when it is imported:

    # my_reader.py
    from qmra_jax.network.memory_read import READERS, softmax_read

    def laplace(query_key, memory_key, memory_value, valid=None, *, scale: float = 1.0): ...

    READERS["laplace"] = laplace

`--plugin my_reader` imports it, from the current folder too. An installed package names its module
in the entry-point group "qmra_jax.plugins" and needs no option.
"""

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable

from qmra_jax.errors import InputError

GROUP = "qmra_jax.plugins"


def load_plugins(names: Iterable[str] = ()) -> None:
    """Imports the plugins of installed packages, and those named.

    Args:
      names: of modules, such as "my_package.readers"; the current folder is searched too.

    Raises:
      InputError: if a plugin does not exist or its import fails.
    """
    installed = [point.module for point in importlib.metadata.entry_points(group=GROUP)]
    folder = os.getcwd()
    for name in (*installed, *names):
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                raise InputError(f"plugin {name!r}: {error}") from error
            raise InputError(
                f"plugin {name!r} not found: expected the name of a Python module, without .py,"
                f" that is installed or lies in {folder}"
            ) from None
        except Exception as error:
            raise InputError(f"plugin {name!r}: {type(error).__name__}: {error}") from error


def require_plugins(names: Iterable[str], user: str) -> None:
    """Checks that plugins are loaded.

    Args:
      names: of their modules.
      user: what needs them, for the message.

    Raises:
      InputError: if one is not.
    """
    if missing := [name for name in names if name not in sys.modules]:
        options = " ".join(f"--plugin {name}" for name in missing)
        raise InputError(f"{user} needs a plugin: give {options}")
