"""An ablation's picture: each row's difference to the whole network, ours beside the paper's."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.ablation.table import REFERENCE, Row, in_order, paper_difference
from benchmarks.plot_sheet import GREY, INK, PALE, Sheet
from qmra_jax.files import written_whole
from qmra_jax.scoring.line_plot import colour

_WIDTH, _ROW, _TOP, _BOTTOM = 860, 34, 64, 34
_LEFT, _RIGHT = 170, 24
_OURS, _PAPERS = colour(0), colour(1)


def write_differences(path: Path, rows: Sequence[Row]) -> bool:
    """Writes a PNG, or removes one that is there where no row has a difference to show.

    Args:
      path: of the PNG.
      rows: "full" among them.

    Returns:
      whether there was something to draw.
    """
    picture = differences(rows)
    if picture is None:
        path.unlink(missing_ok=True)
        return False
    with written_whole(path) as part:
        part.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    return True


def differences(rows: Sequence[Row]) -> np.ndarray | None:
    """Differences in J mean to "full": a bar a row with its standard deviation, paper's a diamond.

    Args:
      rows: "full" among them; without scores a row has the paper's mark alone.

    Returns:
      uint8 `[h, w, 3]`; None if "full" or every other row has no scores.
    """
    reference = next((row for row in rows if row.name == REFERENCE), None)
    others = [row for _, row in in_order(rows) if row.name != REFERENCE]
    ours = {row.name: row.difference(reference) for row in others} if reference else {}
    if not any(ours.values()):
        return None
    papers = {row.name: paper_difference(row.name) for row in others}
    edges = [0.0, *(value for value in papers.values() if value is not None)]
    for spread in filter(None, ours.values()):
        edges += [spread.mean - (spread.deviation or 0), spread.mean + (spread.deviation or 0)]
    axis = _Axis(min(edges), max(edges))
    height = _TOP + _ROW * len(others) + _BOTTOM
    sheet = Sheet(_WIDTH, height)
    sheet.text(_LEFT, 18, "J mean: difference to the whole network", INK, size=15, anchor="lm")
    _legend(sheet, several=any(s and s.count > 1 for s in ours.values()))
    for value in axis.ticks:
        x = axis.x(value)
        sheet.line([(x, _TOP - 6), (x, height - _BOTTOM)], GREY if value == 0 else PALE, 1)
        sheet.text(x, height - _BOTTOM + 14, f"{value:+.2f}" if value else "0", GREY)
    for k, row in enumerate(others):
        y = _TOP + _ROW * (k + 0.5)
        sheet.text(_LEFT - 12, y, row.name, INK, anchor="rm")
        if found := ours[row.name]:
            sheet.bar(axis.x(0), axis.x(found.mean), y, 14, _OURS)
            if found.deviation is not None:
                ends = [axis.x(found.mean + s * found.deviation) for s in (-1, 1)]
                sheet.line([(ends[0], y), (ends[1], y)], INK, 2)
                for x in ends:
                    sheet.line([(x, y - 5), (x, y + 5)], INK, 2)
        if (paper := papers[row.name]) is not None:
            sheet.diamond(axis.x(paper), y, 6, _PAPERS)
    return sheet.pixels()


def _legend(sheet: Sheet, several: bool) -> None:
    sheet.bar(_LEFT, _LEFT + 22, 42, 12, _OURS)
    text = "ours, mean and standard deviation over seeds" if several else "ours, one seed"
    sheet.text(_LEFT + 30, 42, text, INK, anchor="lm")
    x = _LEFT + 30 + sheet.width_of(text) + 24
    sheet.diamond(x, 42, 6, _PAPERS)
    sheet.text(x + 14, 42, "paper, DAVIS 2016 val", INK, anchor="lm")


class _Axis:
    """Values to pixels, with round ticks."""

    def __init__(self, low: float, high: float):
        span = max(high - low, 0.01)
        step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if span / s <= 9)
        first, last = int(np.floor(low / step)), int(np.ceil(high / step))
        self.ticks = [round(k * step, 3) for k in range(first, max(last, first + 1) + 1)]

    def x(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
