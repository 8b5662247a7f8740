import math

import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.variants import choose


def plain(x, *, factor=2, kind="a"):
    return x * factor, kind


def typed(x, *, scale: bool = True, sigma: float = 7.0, rows: int | None = None):
    return scale, sigma, rows


TABLE = {"plain": plain, "typed": typed}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("plain", (6, "a")),
        ("plain:factor=5,kind=both", (15, "both")),
        ("plain:kind=False", (6, False)),
        ("typed:scale=False,sigma=3,rows=None", (False, 3, None)),
        ("typed:sigma=inf,rows=4", (True, math.inf, 4)),
    ],
)
def test_options_are_literals_or_bare_words(spec, expected):
    assert choose("toy", TABLE, spec)(3) == expected


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("plane", "toy 'plane'.*plain"),
        ("plain:size=3", "'size=3'.*'plain'.*factor, kind"),
        ("plain:factor", "'factor'.*option=value"),
        ("plain:x=3", "'x=3'"),
        ("typed:scale=false", "'scale=false'.*True or False"),
        ("typed:scale=1", "'scale=1'.*True or False"),
        ("typed:sigma=wide", "'sigma=wide'.*number"),
        ("typed:sigma=True", "'sigma=True'.*number"),
        ("typed:rows=2.5", "'rows=2.5'.*integer or None"),
    ],
)
def test_unknown_names_options_and_types_are_rejected(spec, named):
    with pytest.raises(InputError, match=named):
        choose("toy", TABLE, spec)
