"""An `Explanation` as one picture: what the network answers, what it reads, what it weighs.

The sheet consists of titled panels, a panel of rows of captioned tiles. Texts may hold mathtext
between dollar signs, such as "$B_q$".
"""

import math
import textwrap
from collections.abc import Callable
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
from qmra_jax.plots import DPI, GREY, INK, new_figure

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


class Panel(NamedTuple):
    """A titled part of the sheet.

    Attributes:
      title: of the panel.
      note: under the title, paler.
      rows: of tiles; one that is longer than `columns` goes on below.
      columns: tiles side by side, which gives their width.
      shape: a tile's height over its width.
      scale: what the colours of all tiles stand for: their map and the texts at its two ends; None
        if they have none.
    """

    title: str
    note: str
    rows: list[list[Tile]]
    columns: int
    shape: float
    scale: tuple[Colormap, str, str] | None = None


class Described(NamedTuple):
    """What a sheet says of the network beside what it shows: the video's name, and as in
    `config.model` the reader, the aggregator, `refine` and `align`."""

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
    stages = len(explanation.stages)
    memory = [str(number) for number in explanation.memory_numbers]
    if len(memory) >= 20:
        memory[10:-5] = ["..."]
    refine = f", refine {described.refine}" if stages == 2 else ""
    note = (
        f"{stages} stage{'s' * (stages > 1)}, reader {described.reader}, aggregator"
        f" {described.aggregator}{refine}; frame{'s' * (len(memory) > 1)} in memory:"
        f" {', '.join(memory)}"
    )
    head = Panel(f"Frame {explanation.number} of {video}", note, [], 1, 0)
    sheet = new_figure(WIDTH, 1)
    page = sheet.add_axes((0, 0, 1, 1))  # in pixels: 0 is its top, below is negative
    page.set_axis_off()
    bottom: float = _MARGIN
    for panel in (head, *panels(explanation, described, channels)):
        bottom = _draw_panel(page, panel, bottom, size=22 if panel is head else 16) + _MARGIN
    page.set(xlim=(0, WIDTH), ylim=(-bottom, 0))
    sheet.set_figheight(bottom / DPI)
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


def _draw_panel(page: Axes, panel: Panel, top: float, *, size: int) -> float:
    """Draws a panel whose title has this size, from `top` on; gives its bottom."""

    def write(x: float, y: float, text: str, **style) -> None:
        page.text(x, -y, text, **{"va": "top", "size": _POINTS, **style})

    def place(x: float, y: float, width: float, height: float) -> Axes:
        axes = page.inset_axes((x, -y - height, width, height), transform=page.transData)
        axes.set_axis_off()
        return axes

    right = WIDTH - _MARGIN
    write(_MARGIN, top, panel.title, size=size, color=INK)
    if panel.scale:
        bar = place(right - 360, top + 6, 200, 10)
        colours, low, high = panel.scale
        bar.imshow(np.linspace(0, 1, 256)[None], colours, aspect="auto")
        write(right - 370, top + 2, low, color=GREY, ha="right")
        write(right - 150, top + 2, high, color=GREY)
    top += _TITLE
    for line in textwrap.wrap(panel.note, int((right - _MARGIN) / (_LETTER * 0.95))):
        write(_MARGIN, top, line, color=GREY)
        top += _LINE
    width = _tile_width(panel.columns)
    for row in panel.rows:
        for k in range(0, len(row), panel.columns):
            top += _GAP
            lines = 1
            for column, tile in enumerate(row[k : k + panel.columns]):
                left = _MARGIN + column * (width + _GAP)
                axes = place(left, top, width, width * panel.shape)
                tile.draw(axes)
                axes.set_aspect("auto")  # the place has the picture's shape
                caption = textwrap.wrap(tile.caption, int(width / _LETTER))
                write(left, top + width * panel.shape + 6, "\n".join(caption))
                lines = max(lines, len(caption))
            top += width * panel.shape + _LINE * lines
    return top


def _tile_width(columns: int) -> float:
    return (WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns


# ---------------------------------------------------------------------- panels


def _answers(e: Explanation, described: Described) -> Panel:
    """The frame, stage 1's map, S_q and S_q^r, where they differ, and the label."""
    of_stage2 = len(e.stages) > 1
    tiles = [Tile("the frame; the ring is the query pixel", partial(_draw_query, e=e))]

    def add(caption: str, map: np.ndarray, box: np.ndarray | None = None) -> None:
        tiles.append(Tile(caption, partial(_draw_map, image=e.image, map=map, box=box)))

    if of_stage2:
        where = ",".join(map(str, e.box)) if e.box.any() else "nothing above one half"
        bounds = scale_boxes(e.box[None], e.labels.shape, e.image.shape[:2])[0]
        add(f"$B_q$, stage 1's {described.align}: {where}", e.outputs["box"], bounds)
    add(f"$S_q$, the mask of {'stage 2' if of_stage2 else 'the only stage'}", e.outputs["mask"])
    absent = ""
    if "refined" in e.outputs:
        add("$S_q^r$, refined by CRM", e.outputs["refined"])
        tiles.append(_difference(e.image, e.outputs["mask"] > 0.5, e.outputs["refined"] > 0.5))
    elif of_stage2:
        absent = f"Refine {described.refine}: there is no $S_q^r$ to compare."
    else:
        absent = "One stage: there is no $B_q$ and no $S_q^r$."
    label = cv2.resize(e.labels, e.image.shape[1::-1], interpolation=cv2.INTER_NEAREST) != 0
    add(f"the final label: {(e.labels != 0).mean():.1%} of the frame", label.astype(float))
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

    def tile(i: int) -> Tile:
        heat = _spread(places[i] / bright, e).clip(0, 1)
        draw = partial(_draw_heat, image=e.memory_images[i], heat=heat, box=boxes[i])
        return Tile(f"frame {e.memory_numbers[i]}: {shares[i]:.1%}", draw)

    title = f"Attention of stage {k + 1} ({described.reader})"
    rows = math.ceil(len(kept) / _FRAMES_A_ROW)
    height, width = e.image.shape[:2]
    columns = max(3 if width >= height else _FRAMES_A_ROW, math.ceil(len(kept) / rows))
    scale = _HEAT, "0%", f"{bright:.2%} and more"
    return Panel(title, note, [list(map(tile, kept))], columns, height / width, scale)


def _aggregation(e: Explanation, described: Described, k: int, channels: int) -> Panel:
    """Figure 5: channels before and after, their weights on the arrows."""
    stage = e.stages[k]
    title = f"Aggregation of stage {k + 1} ({described.aggregator})"
    if not stage.is_weighed:
        c, c_a = stage.query_value.shape[-1], stage.feature.shape[-1]
        note = (
            f"$F_a$ has {c_a} channels, which are none of the {c} of $V_q$ and {c} of $V_a$: no"
            " panel."
        )
        return Panel(title, note, [], 1, 0)
    weights, by_place = stage.channel_weights, stage.place_weights
    said, rows = "channels before and after", []
    if weights is not None and not np.any(stage.change):
        said = "nothing is weighed"
        note = "$F_a$ is $V_q$ and $V_a$ side by side. Their strongest channels."
    elif weights is not None:
        note = "The channels of $V_q$ and $V_a$ that change most; on the arrows their weights."
    elif by_place is not None:
        said = "places are weighed, not channels"
        note = "The weights of places, bright is 1, and the channels that they change most."
        rows = [
            [
                Tile(
                    f"{name}: {w.min():.2f} to {w.max():.2f}",
                    partial(_draw_pair, pair=[_spread(w, e)], colours=_HEAT, low=0, high=1),
                )
                for name, w in (
                    ("$w_q$ of $V_q$", by_place[..., 0]),
                    ("$w_m$ of $V_a$", by_place[..., 1]),
                )
            ]
        ]
    else:
        note = "The channels that change most, each by no one weight of its channel or its places."
    for half, numbers in zip(("V_q", "V_a"), stage.strongest(channels).tolist(), strict=True):
        rows.append([_channel(e, stage, half, n, weights) for n in numbers])
    height, width = e.image.shape[:2]
    shape = _pair_width() / _tile_width(_CHANNELS_A_ROW) * height / width
    scale = _SIGNED, "below 0", "above 0"
    title, note = f"{title}: {said}", f"{note} A pair has one scale."
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
