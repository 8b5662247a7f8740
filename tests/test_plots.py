"""matplotlib is loaded by what draws alone, and missed in one line."""

import subprocess
import sys

import pytest

from qmra_jax import cli
from qmra_jax.errors import InputError, require_packages
from qmra_jax.plots import COLOURS, colour, new_figure, svg_data


def test_neither_the_package_nor_the_commands_that_draw_no_plot_load_matplotlib():
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
    with pytest.raises(SystemExit) as caught:
        cli.main(command.split())
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert 'needs matplotlib: pip install "qmra-jax[plots]"' in told


def test_only_missing_packages_are_named():
    require_packages("this", "numpy", extra="plots")
    with pytest.raises(InputError, match="this needs absent_a and absent_b:"):
        require_packages("this", "absent_a", "numpy", "absent_b", extra="plots")


def test_lines_have_colours_of_their_own_as_long_as_there_are_some():
    assert len({colour(k) for k in range(len(COLOURS))}) == len(COLOURS)
    assert colour(len(COLOURS)) == colour(0)


def test_a_figure_has_the_size_asked_for_and_gives_the_same_bytes_twice():
    def drawn():
        figure = new_figure(200, 100)
        figure.add_subplot().plot([1, 2])
        return figure

    drawn().canvas.draw()
    assert drawn().canvas.get_width_height() == (200, 100)
    assert svg_data(drawn()) == svg_data(drawn())
