import pytest

from qmra_jax.errors import InputError
from qmra_jax.variants import choose


def plain(x, *, factor=2, kind="a"):
    return x * factor, kind


def test_a_name_alone_takes_the_defaults():
    assert choose("toy", {"plain": plain}, "plain")(3) == (6, "a")


def test_options_are_literals_or_bare_words():
    assert choose("toy", {"plain": plain}, "plain:factor=5,kind=both")(3) == (15, "both")
    assert choose("toy", {"plain": plain}, "plain:kind=False")(3) == (6, False)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("plane", "toy 'plane': expected one of plain"),
        ("plain:size=3", "'size=3' is not an option of 'plain'; .* factor, kind"),
        ("plain:factor", "expected option=value"),
        ("plain:x=3", "not an option"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(spec, says):
    with pytest.raises(InputError, match=says):
        choose("toy", {"plain": plain}, spec)
