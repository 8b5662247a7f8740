"""matplotlib is loaded only to draw, and its absence is one line."""

import subprocess
import sys

import pytest

from qmra_jax.errors import InputError, require_packages
from qmra_jax.plots import COLOURS, colour, new_figure, svg_data
from tests.support.commands import refused


def test_what_draws_no_plot_does_not_load_matplotlib():
    code = (
        "import sys, qmra_jax\n"
        "from qmra_jax.cli import app, explain, score\n"
        "from qmra_jax.segmentation import segment_video\n"
        "from qmra_jax.training import validation\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "command",
    [
        "explain no.mp4 --box 0,0,9,9 --frame 3 --output a.png",
        "score --truth no --predictions no --report a.html",
    ],
)
def test_without_matplotlib_a_command_says_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = refused(capsys, *command.split())
    assert 'needs matplotlib: pip install "qmra-jax[plots]"' in line


def test_only_missing_packages_are_named():
    require_packages("this", "numpy", extra="plots")
    with pytest.raises(InputError, match="this needs absent_a and absent_b:"):
        require_packages("this", "absent_a", "numpy", "absent_b", extra="plots")


def test_colours_differ_until_they_repeat():
    assert len({colour(k) for k in range(len(COLOURS))}) == len(COLOURS)
    assert colour(len(COLOURS)) == colour(0)


def test_a_figure_has_its_size_and_is_reproducible():
    def drawn():
        figure = new_figure(200, 100)
        figure.add_subplot().plot([1, 2])
        return figure

    drawn().canvas.draw()
    assert drawn().canvas.get_width_height() == (200, 100)
    assert svg_data(drawn()) == svg_data(drawn())
