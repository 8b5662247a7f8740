"""Variants as config strings: a name from a table, optionally followed by options.

`"dot"`, `"dot:scale=False"`, `"topk:k=30"`, `"bca:reduction=8"`.
"""

import ast
import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qmra_jax.errors import InputError

Entry = TypeVar("Entry")


def choose(kind: str, table: Mapping[str, Callable], spec: str) -> Callable[..., Any]:
    """The entry of `table` that `spec` names, with its options bound.

    Args:
      kind: what the table holds, for messages ("reader").
      table: name -> function or module class. Options are a function's keyword-only parameters and
        a module's attributes.
      spec: `name` or `name:option=value,option=value`; values are Python literals or bare words.

    Raises:
      InputError: if the name or an option is unknown, or a value is not of the annotated type.
    """
    name, _, listed = spec.partition(":")
    entry = lookup(kind, table, name)
    annotations = _options(entry)
    options = {}
    for item in filter(None, listed.split(",")):
        option, equals, value = item.partition("=")
        if not equals or option not in annotations:
            raise InputError(
                f"{kind} {spec!r}: {item!r} is not an option of {name!r}; expected option=value"
                f" with option among: {', '.join(sorted(annotations)) or 'none'}"
            )
        options[option] = _literal(value)
        _check_type(f"{kind} {spec!r}: {item!r}", options[option], annotations[option])
    return functools.partial(entry, **options)


def lookup(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """`table[name]`; raises an `InputError` that lists the names if it is missing."""
    if name not in table:
        raise InputError(f"{kind} {name!r}: expected one of {', '.join(sorted(table))}")
    return table[name]


def _options(entry: Callable) -> dict[str, Any]:
    """Option -> its annotation."""
    parameters = inspect.signature(entry).parameters.values()
    if inspect.isclass(entry):  # a module's attributes, except those that Linen and the model set
        return {
            p.name: p.annotation for p in parameters if p.name not in ("parent", "name", "dtype")
        }
    return {p.name: p.annotation for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _check_type(what: str, value: Any, annotation: Any) -> None:
    if annotation in (inspect.Parameter.empty, Any):
        return
    types = typing.get_args(annotation) or (annotation,)
    if type(value) in types or (type(value) is int and float in types):
        return
    names = {bool: "True or False", int: "an integer", float: "a number", type(None): "None"}
    raise InputError(f"{what}: expected {' or '.join(names.get(t, 'text') for t in types)}")


def _literal(text: str) -> Any:
    if text == "inf":
        return math.inf
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
