"""An `Explanation` as one picture: what the network answers, what it reads, what it weighs.

The sheet consists of titled panels, a panel of rows of captioned tiles. Texts may hold mathtext
between dollar signs, such as "$B_q$".
"""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from qmra_jax.boxes import scale_boxes
from qmra_jax.drawing import object_colour, plain_text
from qmra_jax.explain.explanation import Explanation, Stage
from qmra_jax.plots import GREY, INK, new_figure

MOST_FRAMES = 15  # memory frames on a sheet: those that count most
_BRIGHT = 0.995  # of the places are darker than the brightest: one alone would darken all others
_FRAMES_A_ROW, _CHANNELS_A_ROW = 5, 4
_OBJECT = object_colour(1) / 255
_ADDED, _REMOVED = (64, 160, 255), (255, 140, 30)  # told apart by all eyes
_HEAT = colormaps["inferno"]
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#78dcff", "#1450be", "#0c0c10", "#be5a0a", "#ffe16e"]
)

# All in pixels.
WIDTH, _MARGIN, _GAP = 1600, 40, 20  # of the sheet, around it, between tiles
_ARROW = 62  # between a channel before and after
_TITLE, _LINE, _LETTER = 34, 21, 8.2  # heights of a title and a line of text, width of a letter
_POINTS = 11  # size of text


class Tile(NamedTuple):
    """A picture: the text under it, and what draws it into axes that have the tile's size."""

    caption: str
    draw: Callable[[Axes], object]


class Scale(NamedTuple):
    """What colours stand for: a map and the texts at its two ends."""

    colours: Colormap
    low: str
    high: str


class Panel(NamedTuple):
    """A titled part of the sheet.

    Attributes:
      title: of the panel.
      note: under the title, paler.
      rows: of tiles; one that is longer than `columns` goes on below.
      columns: tiles side by side, which gives their width.
      shape: a tile's height over its width.
      scale: of the colours of all tiles; None if they have none.
    """

    title: str
    note: str
    rows: list[list[Tile]]
    columns: int
    shape: float
    scale: Scale | None = None


class Described(NamedTuple):
    """What a sheet says of the network beside what it shows.

    Attributes:
      video: its name.
      reader: as in the config.
      aggregator: as in the config.
      refine: as in the config.
      align: as in the config.
    """

    video: str
    reader: str
    aggregator: str
    refine: str
    align: str = "box"


def draw_sheet(explanation: Explanation, described: Described, *, channels: int = 4) -> Figure:
    """The whole sheet, `WIDTH` pixels wide; `savefig` writes it.

    Args:
      explanation: of a frame.
      described: its video and network.
      channels: of V_q and of V_a to show, each: those that change most.
    """
    video = plain_text(described.video).replace("$", r"\$")
    stages, numbers = len(explanation.stages), explanation.memory_numbers
    refine = f", refine {described.refine}" if stages == 2 else ""
    note = (
        f"{stages} stage{'s' * (stages > 1)}, reader {described.reader}, aggregator"
        f" {described.aggregator}{refine}; frame{'s' * (len(numbers) > 1)} in memory:"
        f" {_listed(numbers)}"
    )
    head = Panel(f"Frame {explanation.number} of {video}", note, [], 1, 0)
    shown = [head, *panels(explanation, described, channels)]
    sheet = new_figure(WIDTH, _MARGIN + sum(map(_height, shown)))
    top = 0.0
    for panel in shown:
        _draw_panel(sheet, panel, top + _MARGIN, head=panel is head)
        top += _height(panel)
    return sheet


def panels(explanation: Explanation, described: Described, channels: int) -> list[Panel]:
    """The sheet's parts: what the network answers, what each stage reads, and what it weighs.

    Arguments as `draw_sheet`'s.

    What a network does not have is left out, and its panel's note says so.
    """
    stages = range(len(explanation.stages))
    return [
        _answers(explanation, described),
        *(_attention(explanation, described, k) for k in stages),
        *(_aggregation(explanation, described, k, channels) for k in stages),
    ]


# ---------------------------------------------------------------------- layout


def _height(panel: Panel) -> float:
    """Of a panel and the margin above it."""
    rows = sum(sum(_row_heights(row, panel)) for row in _rows(panel))
    return _MARGIN + _TITLE + _LINE * len(_note(panel)) + rows


def _note(panel: Panel) -> list[str]:
    return textwrap.wrap(panel.note, int((WIDTH - 2 * _MARGIN) / (_LETTER * 0.95)))


def _rows(panel: Panel) -> list[list[Tile]]:
    n = panel.columns
    return [row[k : k + n] for row in panel.rows for k in range(0, len(row), n)]


def _tile_width(columns: int) -> float:
    return (WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns


def _caption(tile: Tile, columns: int) -> str:
    return textwrap.fill(tile.caption, int(_tile_width(columns) / _LETTER))


def _row_heights(row: Sequence[Tile], panel: Panel) -> tuple[float, float, float]:
    """The space above a row of tiles, the tiles, and the text below."""
    lines = max(_caption(tile, panel.columns).count("\n") + 1 for tile in row)
    return 14, _tile_width(panel.columns) * panel.shape, 8 + _LINE * lines


def _draw_panel(sheet: Figure, panel: Panel, top: float, *, head: bool) -> None:
    height = sheet.get_figheight() * sheet.dpi

    def place(x: float, y: float, width: float, below: float) -> tuple[float, ...]:
        return x / WIDTH, 1 - (y + below) / height, width / WIDTH, below / height

    def write(x: float, y: float, text: str, **style) -> None:
        sheet.text(x / WIDTH, 1 - y / height, text, va="top", **style)

    write(_MARGIN, top, panel.title, size=22 if head else 16, color=INK)
    if panel.scale:
        bar = sheet.add_axes(place(WIDTH - _MARGIN - 360, top + 6, 200, 10))  # type: ignore[arg-type]
        bar.imshow(np.linspace(0, 1, 256)[None], panel.scale.colours, aspect="auto")
        bar.set_axis_off()
        for x, text, side in ((-370, panel.scale.low, "right"), (-150, panel.scale.high, "left")):
            write(WIDTH - _MARGIN + x, top + 2, text, size=_POINTS, color=GREY, ha=side)
    top += _TITLE
    for line in _note(panel):
        write(_MARGIN, top, line, size=_POINTS, color=GREY)
        top += _LINE
    for row in _rows(panel):
        above, tall, below = _row_heights(row, panel)
        width = _tile_width(panel.columns)
        for k, tile in enumerate(row):
            left = _MARGIN + k * (width + _GAP)
            axes = sheet.add_axes(place(left, top + above, width, tall))  # type: ignore[arg-type]
            tile.draw(axes)
            axes.set_axis_off()
            axes.set_aspect("auto")  # the place has the picture's shape
            write(left, top + above + tall + 6, _caption(tile, panel.columns), size=_POINTS)
        top += above + tall + below


# ---------------------------------------------------------------------- panels


def _answers(e: Explanation, described: Described) -> Panel:
    """The frame, stage 1's map, S_q and S_q^r, where they differ, and the label."""
    outputs, of_stage1 = dict(e.outputs), len(e.stages) > 1
    tiles = [Tile("the frame; the ring is the query pixel", partial(_draw_query, e=e))]
    if of_stage1:
        box = outputs.pop("box")
        where = ",".join(map(str, e.box)) if e.box.any() else "nothing above one half"
        caption = f"$B_q$, stage 1's {described.align}: {where}"
        bounds = scale_boxes(e.box[None], e.labels.shape, e.image.shape[:2])[0]
        tiles.append(Tile(caption, partial(_draw_map, image=e.image, map=box, box=bounds)))
    names = {"mask": "$S_q$, the mask of stage 2" if of_stage1 else "$S_q$, the only stage's mask"}
    names["refined"] = "$S_q^r$, refined by CRM"
    for name, probability in outputs.items():
        tiles.append(Tile(names[name], partial(_draw_map, image=e.image, map=probability)))
    absent = ""
    if not of_stage1:
        absent = "One stage: there is no $B_q$ and no $S_q^r$."
    elif "refined" not in outputs:
        absent = f"Refine {described.refine}: there is no $S_q^r$ to compare."
    else:
        tiles.append(_difference(e.image, outputs["mask"] > 0.5, outputs["refined"] > 0.5))
    label = cv2.resize(e.labels, e.image.shape[1::-1], interpolation=cv2.INTER_NEAREST) != 0
    caption = f"the final label: {(e.labels != 0).mean():.1%} of the frame"
    tiles.append(Tile(caption, partial(_draw_map, image=e.image, map=label.astype(float))))
    height, width = e.image.shape[:2]
    columns = min(3 if width >= height else 6, len(tiles))
    note = "Tint: probability; outline: one half. " + absent
    return Panel("What the network answers", note, [tiles], columns, height / width)


def _attention(e: Explanation, described: Described, k: int) -> Panel:
    """A heat map over each memory frame, on one scale, and the frame's share under it."""
    places = e.stages[k].attention
    shares, bright = places.sum(axis=(1, 2)), max(np.quantile(places, _BRIGHT), 1e-12)
    kept = np.sort(np.argsort(-shares, kind="stable")[:MOST_FRAMES])
    boxes = scale_boxes(e.memory_boxes, e.labels.shape, e.image.shape[:2])
    x, y = e.pixel
    note = (
        f"What the query pixel {x},{y} reads from the memory: the share of each frame, and in"
        f" colour that of its places of 16x16 pixels (if all {places.size} were alike:"
        f" {1 / places.size:.2%}). White: the box of the object in that frame."
    )
    if len(kept) < len(places):
        note += f" {len(kept)} of {len(places)} frames, which hold {shares[kept].sum():.1%}."
    if described.reader.partition(":")[0] == "none":
        note += " No read: the mean of all frames at the same place."
    tiles = [
        Tile(
            f"frame {e.memory_numbers[i]}: {shares[i]:.1%}",
            partial(
                _draw_heat,
                image=e.memory_images[i],
                heat=_spread(places[i] / bright, e).clip(0, 1),
                box=boxes[i],
            ),
        )
        for i in kept
    ]
    title = f"Attention of stage {k + 1} ({described.reader})"
    rows = -(-len(tiles) // _FRAMES_A_ROW)
    height, width = e.image.shape[:2]
    least = 3 if width >= height else _FRAMES_A_ROW
    columns = max(least, -(-len(tiles) // rows))
    scale = Scale(_HEAT, "0%", f"{bright:.2%} and more")
    return Panel(title, note, [tiles], columns, height / width, scale)


def _aggregation(e: Explanation, described: Described, k: int, channels: int) -> Panel:
    """Figure 5: channels before and after, their weights on the arrows."""
    stage, name = e.stages[k], described.aggregator
    title = f"Aggregation of stage {k + 1} ({name})"
    if not stage.is_weighed:
        c, c_a = stage.query_value.shape[-1], stage.feature.shape[-1]
        note = (
            f"$F_a$ has {c_a} channels, which are none of the {c} of $V_q$ and {c} of $V_a$: no"
            " panel."
        )
        return Panel(title, note, [], 1, 0)
    weights, by_place = stage.channel_weights, stage.place_weights
    rows = []
    if weights is not None and not stage.change.any():  # type: ignore[union-attr]
        title += ": nothing is weighed"
        note = "$F_a$ is $V_q$ and $V_a$ side by side. Their strongest channels."
    elif weights is not None:
        title += ": channels before and after"
        note = "The channels of $V_q$ and $V_a$ that change most; on the arrows their weights."
    elif by_place is not None:
        title += ": places are weighed, not channels"
        note = "The weights of places, bright is 1, and the channels that they change most."
        rows.append(
            [
                Tile(
                    f"{caption}: {w.min():.2f} to {w.max():.2f}",
                    partial(_draw_pair, pair=(_spread(w, e),), colours=_HEAT, low=0, high=1),
                )
                for w, caption in zip(
                    np.moveaxis(by_place, -1, 0), ("$w_q$ of $V_q$", "$w_m$ of $V_a$"), strict=True
                )
            ]
        )
    else:
        title += ": channels before and after"
        note = "The channels that change most, each by no one weight of its channel or its places."
    for half, numbers in zip(("V_q", "V_a"), stage.strongest(channels), strict=True):
        rows.append([_channel(e, stage, half, int(n), weights) for n in numbers])
    note += " A pair has one scale."
    height, width = e.image.shape[:2]
    shape = _pair_width() / _tile_width(_CHANNELS_A_ROW) * height / width
    scale = Scale(_SIGNED, "below 0", "above 0")
    return Panel(title, note, rows, _CHANNELS_A_ROW, shape, scale)


def _channel(e: Explanation, stage: Stage, half: str, n: int, weights: np.ndarray | None) -> Tile:
    """A channel before and after, an arrow between them."""
    pair = [_spread(x[..., n], e) for x in (stage.before, stage.feature)]
    bound = max(np.abs(pair[0]).max(), np.abs(pair[1]).max(), 1e-12)
    number = n - (half == "V_a") * stage.query_value.shape[-1]
    text = "" if weights is None else f"{weights[n]:.2f}"
    draw = partial(_draw_pair, pair=pair, colours=_SIGNED, low=-bound, high=bound, text=text)
    return Tile(f"${half}$, channel {number}", draw)


def _difference(image, mask, refined) -> Tile:
    """Where S_q^r has more or less than S_q, over a pale frame."""
    pale = np.repeat(image.mean(axis=-1, keepdims=True) * 0.5 + 110, 3, axis=-1)
    added, removed = refined & ~mask, mask & ~refined
    pale[mask & refined] *= 0.6
    pale[added], pale[removed] = _ADDED, _REMOVED
    size = max(mask.sum(), 1)
    caption = (
        f"$S_q$ to $S_q^r$: +{added.sum() / size:.1%} blue, −{removed.sum() / size:.1%} orange"
    )
    return Tile(caption, lambda axes: axes.imshow(pale.round().astype(np.uint8)))


# ---------------------------------------------------------------------- tiles: whole numbers are
# the middles of a frame's pixels


def _draw_query(axes: Axes, e: Explanation) -> None:
    """The frame, and a ring about the query pixel."""
    axes.imshow(e.image)
    at = [
        (v + 0.5) * small / size - 0.5
        for v, small, size in zip(e.pixel, e.image.shape[1::-1], e.labels.shape[::-1], strict=True)
    ]
    for edge, thickness in ((INK, 5), ("white", 2)):
        radius = max(e.image.shape[0] / 40, 2)
        axes.add_patch(Circle(at, radius, fill=False, edgecolor=edge, linewidth=thickness))  # type: ignore[arg-type]


def _draw_map(axes: Axes, image, map, box=None) -> None:
    """The frame, a probability [0, 1] as tint and its border at one half, a box (x, y, w, h)."""
    axes.imshow(image)
    colour = np.broadcast_to(_OBJECT, (*map.shape, 3))
    axes.imshow(np.concatenate([colour, 0.6 * map[..., None]], axis=-1))
    pale = _OBJECT + (1 - _OBJECT) * 0.35
    if map.min() < 0.5 < map.max():
        axes.contour(map, [0.5], colors=[pale], linewidths=1.5)
    _draw_box(axes, box, pale)


def _draw_heat(axes: Axes, image, heat, box) -> None:
    """Heat in [0, 1] over the frame in grey: the hotter, the less of the frame."""
    axes.imshow(image.mean(axis=-1), "gray", vmin=0, vmax=255 / 0.7)
    axes.imshow(heat, _HEAT, vmin=0, vmax=1, alpha=0.9 * np.sqrt(heat))
    _draw_box(axes, box, "white")


def _draw_box(axes: Axes, box, colour) -> None:
    if box is not None and box[2:].all():
        x, y, width, height = box.tolist()
        frame = Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour)
        axes.add_patch(frame)


def _draw_pair(axes: Axes, pair, colours: Colormap, low, high, text: str = "") -> None:
    """One or two maps side by side, between them an arrow with a text above it."""
    height, width = pair[0].shape
    gap = _ARROW * width / _pair_width()
    for map, left in zip(pair, (0, width + gap), strict=False):
        extent = left, left + width, height, 0
        axes.imshow(map, colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")
    axes.set_xlim(0, 2 * width + gap)
    if len(pair) > 1:
        start, end = (width + gap * 0.15, height / 2), (width + gap * 0.85, height / 2)
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.8})
        middle = width + gap / 2, height / 2
        axes.annotate(text, middle, (0, 7), textcoords="offset points", ha="center", size=_POINTS)


def _pair_width() -> float:
    """Of each of two pictures with an arrow between them."""
    return (_tile_width(_CHANNELS_A_ROW) - _ARROW) / 2


def _spread(places: np.ndarray, e: Explanation) -> np.ndarray:
    """Places `[H, W]` over the pixels of the network's image, padding cut off."""
    size = (16 * places.shape[1], 16 * places.shape[0])
    return cv2.resize(places, size, interpolation=cv2.INTER_LINEAR)[e.crop]


def _listed(numbers: Sequence[int]) -> str:
    shown = [str(n) for n in numbers]
    return ", ".join(shown if len(shown) < 20 else [*shown[:10], "...", *shown[-5:]])
