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
    for name in (*installed, *names):
        try:
            sys.path.append(os.getcwd())
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                raise InputError(f"plugin {name!r}: {error}") from error
            raise InputError(
                f"plugin {name!r} not found: expected the name of a Python module that is installed"
                f" or lies in {os.getcwd()}, without .py"
            ) from None
        except Exception as error:
            raise InputError(f"plugin {name!r}: {type(error).__name__}: {error}") from error
        finally:
            sys.path.pop()
