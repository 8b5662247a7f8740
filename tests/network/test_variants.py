import functools
import math

import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.variants import choose


def plain(x, *, factor=2, kind="a"):
    return x * factor, kind


def typed(x, *, scale: bool = True, sigma: float = 7.0, rows: int | None = None):
    return scale, sigma, rows


def test_a_name_alone_takes_the_defaults():
    assert choose("toy", {"plain": plain}, "plain")(3) == (6, "a")


def test_options_are_literals_or_bare_words():
    assert choose("toy", {"plain": plain}, "plain:factor=5,kind=both")(3) == (15, "both")
    assert choose("toy", {"plain": plain}, "plain:kind=False")(3) == (6, False)


def test_options_are_of_the_kind_they_are_annotated_with():
    read = functools.partial(choose, "toy", {"typed": typed})
    assert read("typed:scale=False,sigma=3,rows=None")(0) == (False, 3, None)
    assert read("typed:sigma=inf,rows=4")(0) == (True, math.inf, 4)
    for item, expected in (
        ("scale=false", "True or False"),
        ("scale=1", "True or False"),
        ("sigma=wide", "number"),
        ("sigma=True", "number"),
        ("rows=2.5", "whole number or None"),
    ):
        with pytest.raises(InputError, match=f"toy 'typed:{item}'.*{expected}"):
            read(f"typed:{item}")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("plane", "toy 'plane'.*plain"),
        ("plain:size=3", "'size=3'.*'plain'.*factor, kind"),
        ("plain:factor", "option=value"),
        ("plain:x=3", "'x=3'"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(spec, says):
    with pytest.raises(InputError, match=says):
        choose("toy", {"plain": plain}, spec)
