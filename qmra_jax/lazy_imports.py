"""Package attributes that are imported on first access (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_getattr(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names live in its submodules.

    Args:
      package: the package's `__name__`.
      modules: public name -> submodule that defines it. Submodules are attributes, too.
    """

    def __getattr__(name: str) -> Any:
        module = f"{package}.{modules.get(name, name)}"
        try:
            imported = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        return getattr(imported, name) if name in modules else imported

    return __getattr__
