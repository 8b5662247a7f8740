"""Shared style of all plots: figures without global state, and their colours.

matplotlib comes with the extra `plots`, so only modules that draw plots import this one.
"""

import base64
import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
INK, GREY, PALE = "#1e1e22", "#707078", "#dddddf"
DPI = 100


def colour(number: int) -> str:
    """The colour of line `number`, from 0; colours repeat after the last."""
    return COLOURS[number % len(COLOURS)]


def new_figure(width: float, height: float) -> Figure:
    """A white figure of `width` x `height` pixels at `DPI`, with an Agg canvas of its own."""
    figure = Figure((width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def bare(axes: Axes, *, grid: str) -> None:
    """Removes the frame and tick marks; draws pale grid lines for the axis `grid` ("x", "y")."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=GREY)
    axes.grid(axis=grid, color=PALE, linewidth=1)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def svg_data(figure: Figure) -> str:
    """The figure as a `data:` URL of a reproducible SVG with text as paths."""
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "qmra"}):
        figure.savefig(data, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(data.getvalue()).decode()}"
