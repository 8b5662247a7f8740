"""Measures over time as SVG, to be put into a page: drawn by hand, nothing is loaded for it."""

from collections.abc import Mapping, Sequence
from html import escape

# Okabe and Ito's: told apart by colour-blind readers too. More lines than these repeat them dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

_WIDTH, _HEIGHT = 760, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 8, 24  # margins


def colour(number: int) -> str:
    """The colour of the n-th line, from 0."""
    return COLOURS[number % len(COLOURS)]


def line_plot(
    lines: Mapping[str, Sequence[float | None]],
    names: Sequence[str],
    *,
    title: str,
    thin: Mapping[str, Sequence[float | None]] | None = None,
) -> str:
    """Measures of 0 to 1 over frames, several in one plot.

    Args:
      lines: the values of each line in each frame; None leaves a gap.
      names: of the frames, for the axis.
      title: what the plot shows, for those who hear it read.
      thin: further lines, drawn thin behind them in the first line's colour, such as objects.

    Returns:
      An `<svg>` element.
    """
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        *_axes(names),
    ]
    for label, values in (thin or {}).items():
        parts += _line(label, values, colour(0), 'stroke-width="1" opacity="0.35"')
    for number, (label, values) in enumerate(lines.items()):
        dashes = ' stroke-dasharray="6 3"' if number >= len(COLOURS) else ""
        parts += _line(label, values, colour(number), f'stroke-width="2"{dashes}')
    return "".join([*parts, "</svg>"])


def _axes(names: Sequence[str]) -> list[str]:
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = _y(value)
        shade = "#999" if value in (0, 0.5) else "#ddd"  # recall counts what is above a half
        parts.append(
            f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="{shade}" stroke-width="1"/>'
            f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{value:g}</text>'
        )
    for k in range(0, len(names), max(1, round((len(names) - 1) / 5))):
        anchor = "start" if k == 0 else "end" if k == len(names) - 1 else "middle"
        parts.append(
            f'<text x="{_x(k, len(names))}" y="{_HEIGHT - 6}" text-anchor="{anchor}">'
            f"{escape(names[k])}</text>"
        )
    return parts


def _line(label: str, values: Sequence[float | None], shade: str, style: str) -> list[str]:
    """A path for each stretch without a gap; a dot where a frame stands alone."""
    stretches: list[list[str]] = [[]]
    for k, value in enumerate(values):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append(f"{_x(k, len(values))} {_y(value)}")
    return [
        f'<path d="M{"L".join(points if len(points) > 1 else points * 2)}" fill="none"'
        f' stroke="{shade}" stroke-linejoin="round" stroke-linecap="round" {style}>'
        f"<title>{escape(label)}</title></path>"
        for points in stretches
        if points
    ]


def _x(k: int, n: int) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * (k / (n - 1) if n > 1 else 0.5), 1)


def _y(value: float) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value, 1)
