"""A variant is one config string: a name of a dictionary, with options if it has any.

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
        _check_kind(f"{kind} {spec!r}: {item!r}", options[key], allowed[key])
    return functools.partial(entry, **options)


def lookup(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """`table[name]`, or an `InputError` that lists the names there are."""
    if name not in table:
        raise InputError(f"{kind} {name!r}: expected one of {', '.join(sorted(table))}")
    return table[name]


def _options(entry: Callable) -> dict[str, Any]:
    """Each option's name and annotation."""
    parameters = inspect.signature(entry).parameters.values()
    if inspect.isclass(entry):  # a module's attributes, but for what Linen and the model fill in
        filled_in = ("parent", "name", "dtype")
        return {p.name: p.annotation for p in parameters if p.name not in filled_in}
    return {p.name: p.annotation for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _check_kind(what: str, value: Any, annotation: Any) -> None:
    """Raises `InputError` unless the value is of the kind that an option is annotated with."""
    if annotation in (inspect.Parameter.empty, Any):
        return
    kinds = typing.get_args(annotation) or (annotation,)
    if type(value) in kinds or (type(value) is int and float in kinds):
        return
    expected = " or ".join(_KINDS.get(kind, str(kind)) for kind in kinds)
    raise InputError(f"{what}: expected {expected}")


_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "None",
}


def _literal(text: str) -> Any:
    if text == "inf":
        return math.inf
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
