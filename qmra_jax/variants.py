"""A variant is one config string: a name of a dictionary, with options if it has any.

`"dot"`, `"dot:scale=False"`, `"topk:k=30"`, `"bca:reduction=8"`.
"""

import ast
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qmra_jax.errors import InputError

Entry = TypeVar("Entry")


def choose(kind: str, table: Mapping[str, Callable], spec: str) -> Callable[..., Any]:
    """The entry of `table` that `spec` names, with the options that it gives already filled in.

    Args:
      kind: what the table holds, for messages ("reader").
      table: name -> function or module class.
      spec: `name` or `name:option=value,option=value`, the values Python literals or bare words.

    Raises:
      InputError: if there is no such name or it has no such option.
    """
    name, _, rest = spec.partition(":")
    entry = lookup(kind, table, name)
    allowed = _options(entry)
    options = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in allowed:
            raise InputError(
                f"{kind} {spec!r}: {item!r} is not an option of {name!r}; expected option=value"
                f" with option among: {', '.join(sorted(allowed)) or 'none'}"
            )
        options[key] = _literal(value)
    return functools.partial(entry, **options)


def lookup(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """`table[name]`, or an `InputError` that lists the names there are."""
    if name not in table:
        raise InputError(f"{kind} {name!r}: expected one of {', '.join(sorted(table))}")
    return table[name]


def _options(entry: Callable) -> set[str]:
    parameters = inspect.signature(entry).parameters.values()
    if inspect.isclass(entry):  # a module's attributes, but for what Linen and the model fill in
        return {p.name for p in parameters} - {"parent", "name", "dtype"}
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
