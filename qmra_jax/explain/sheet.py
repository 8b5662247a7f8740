"""Draws an `Explanation`: predictions, attention over the memory, and channel weights."""

import itertools
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from qmra_jax.boxes import scale_boxes
from qmra_jax.drawing import object_colour, plain_text
from qmra_jax.explain.explanation import Explanation
from qmra_jax.plots import GREY, INK, new_figure

WIDTH = 1600  # of the sheet, in pixels
MOST_FRAMES = 15  # memory frames on a sheet: those with the largest share
_BRIGHT = 0.995  # quantile of the attention shown at full brightness
_LETTER, _TEXT = 8.2, 11  # width of a letter in pixels, size of text in points
_OBJECT = object_colour(1) / 255
_ADDED, _REMOVED = (64, 160, 255), (255, 140, 30)  # blue and orange
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#78dcff", "#1450be", "#0c0c10", "#be5a0a", "#ffe16e"]
)

Draw = Callable[[Axes], object]  # draws a tile


class Panel(NamedTuple):
    """A part of the sheet: a grid of captioned tiles. Texts may hold mathtext such as "$B_q$".

    Attributes:
      title: above the tiles.
      note: below the tiles.
      tiles: caption -> picture.
      columns: tiles side by side.
      shape: height of a tile over its width.
    """

    title: str
    note: str
    tiles: dict[str, Draw]
    columns: int
    shape: float


class Described(NamedTuple):
    """Texts for the sheet: the video's name, and variants as in `config.model`."""

    video: str
    reader: str
    aggregator: str
    refine: str
    align: str = "box"


def draw_sheet(explanation: Explanation, described: Described, *, channels: int = 4) -> Figure:
    """Draws the sheet, `WIDTH` pixels wide; save it with `savefig`.

    Args:
      explanation: of a frame.
      described: its video and network.
      channels: number of channels to show of V_q and of V_a: those that change most.
    """
    parts = panels(explanation, described, channels)
    rows = [math.ceil(len(part.tiles) / part.columns) for part in parts]
    heights = [
        90 + n * (30 + part.shape * WIDTH / part.columns)
        for n, part in zip(rows, parts, strict=True)
    ]
    sheet = new_figure(WIDTH, 60 + sum(heights))
    sheet.set_layout_engine("constrained")
    video = plain_text(described.video).replace("$", r"\$")
    sheet.suptitle(f"Frame {explanation.number} of {video}", size=22, x=0.004, ha="left")
    figures: Any = sheet.subfigures(len(parts), height_ratios=heights, squeeze=False)[:, 0]
    for figure, part, n in zip(figures, parts, rows, strict=True):
        figure.suptitle(part.title, size=16, x=0.004, ha="left")
        note = textwrap.fill(part.note, int(WIDTH / _LETTER))
        figure.supxlabel(note, size=_TEXT, x=0.004, ha="left", color=GREY)
        grid = figure.subplots(max(n, 1), part.columns, squeeze=False)
        for axes, tile in itertools.zip_longest(grid.flat, part.tiles.items()):
            axes.set_axis_off()
            if tile:
                caption, draw = tile
                draw(axes)
                caption = textwrap.fill(caption, int(WIDTH / part.columns / _LETTER) - 2)
                axes.set_title(caption, loc="left", size=_TEXT)
    return sheet


def panels(explanation: Explanation, described: Described, channels: int) -> list[Panel]:
    """The sheet's panels: predictions, then attention and then aggregation of each stage."""
    stages = range(len(explanation.stages))
    return [
        _predictions(explanation, described),
        *(_attention(explanation, described, k) for k in stages),
        *(_aggregation(explanation, described, k, channels) for k in stages),
    ]


def _predictions(e: Explanation, described: Described) -> Panel:
    """The frame, B_q, S_q, S_q^r, the difference of the two masks, and the label."""
    height, width = e.image.shape[:2]
    mask, refined = (e.outputs.get(name, e.outputs["mask"]) > 0.5 for name in ("mask", "refined"))

    def frame(axes: Axes) -> None:
        axes.imshow(e.image)
        scale = np.divide((width, height), e.labels.shape[::-1])
        x, y = np.add(e.pixel, 0.5) * scale - 0.5  # whole numbers are centres of pixels
        for colour, edge in ((INK, 5), ("white", 2)):
            ring: dict[str, Any] = {
                "markersize": 18,
                "markeredgecolor": colour,
                "markeredgewidth": edge,
            }
            axes.plot(x, y, "o", markerfacecolor="none", scalex=False, scaley=False, **ring)

    def tinted(probability: np.ndarray, box: np.ndarray | None = None) -> Draw:
        def draw(axes: Axes) -> None:
            axes.imshow(e.image)
            colour = np.broadcast_to(_OBJECT, (height, width, 3))
            axes.imshow(np.concatenate([colour, 0.6 * probability[..., None]], axis=-1))
            pale = _OBJECT + (1 - _OBJECT) * 0.35
            if probability.min() < 0.5 < probability.max():
                axes.contour(probability, [0.5], colors=[pale], linewidths=1.5)
            _draw_box(axes, box, pale)

        return draw

    def difference(axes: Axes) -> None:
        pale = np.repeat(e.image.mean(axis=-1, keepdims=True) * 0.5 + 110, 3, axis=-1)
        pale[mask & refined] *= 0.6
        pale[refined & ~mask], pale[mask & ~refined] = _ADDED, _REMOVED
        axes.imshow(pale.round().astype(np.uint8))

    tiles: dict[str, Draw] = {"the frame; the ring is the query pixel": frame}
    note = "Tint: probability; outline: one half."
    if len(e.stages) == 2:
        where = ",".join(map(str, e.box)) if e.box.any() else "nothing above one half"
        box = scale_boxes(e.box[None], e.labels.shape, (height, width))[0]
        tiles[f"$B_q$, stage 1's {described.align}: {where}"] = tinted(e.outputs["box"], box)
    else:
        note += " One stage: no $B_q$ and no $S_q^r$."
    tiles["$S_q$, the mask"] = tinted(e.outputs["mask"])
    if "refined" in e.outputs:
        tiles["$S_q^r$, refined by CRM"] = tinted(e.outputs["refined"])
        added, removed = (x.sum() / max(mask.sum(), 1) for x in (refined & ~mask, mask & ~refined))
        tiles[f"$S_q$ to $S_q^r$: +{added:.1%} blue, −{removed:.1%} orange"] = difference
    elif len(e.stages) == 2:
        note += f" Refine {described.refine}: no $S_q^r$."
    label = cv2.resize(e.labels, (width, height), interpolation=cv2.INTER_NEAREST) != 0
    share = (e.labels != 0).mean()
    tiles[f"the final label: {share:.1%} of the frame"] = tinted(label.astype(float))
    title = f"Predictions (align {described.align}, refine {described.refine})"
    return Panel(title, note, tiles, 3 if width >= height else 6, height / width)


def _attention(e: Explanation, described: Described, k: int) -> Panel:
    """A heat map over each memory frame, all on one scale, with the frame's share."""
    places = e.stages[k].attention
    shares, bright = places.sum(axis=(1, 2)), max(np.quantile(places, _BRIGHT), 1e-12)
    shown = np.sort(np.argsort(-shares, kind="stable")[:MOST_FRAMES])
    boxes = scale_boxes(e.memory_boxes, e.labels.shape, e.image.shape[:2])
    note = (
        f"What the query pixel {e.pixel[0]},{e.pixel[1]} reads: each memory frame's share, and in"
        f" colour that of its places of 16x16 pixels (uniform: {1 / places.size:.2%}; brightest:"
        f" {bright:.2%} and more). White: the object's box in that frame."
    )
    if len(shown) < len(places):
        note += f" {len(shown)} of {len(places)} frames, with {shares[shown].sum():.1%}."
    if described.reader.partition(":")[0] == "none":
        note += " No read: the mean of all frames at the same place."

    def heat_map(i: int) -> Draw:
        def draw(axes: Axes) -> None:
            heat = _resized(places[i] / bright, e).clip(0, 1)
            axes.imshow(e.memory_images[i].mean(axis=-1), "gray", vmin=0, vmax=255 / 0.7)
            axes.imshow(heat, "inferno", vmin=0, vmax=1, alpha=0.9 * np.sqrt(heat))
            _draw_box(axes, boxes[i], "white")

        return draw

    tiles = {f"frame {e.memory_numbers[i]}: {shares[i]:.1%}": heat_map(i) for i in shown}
    title = f"Attention of stage {k + 1} (reader {described.reader})"
    height, width = e.image.shape[:2]
    return Panel(title, note, tiles, min(max(3, len(tiles)), 5), height / width)


def _aggregation(e: Explanation, described: Described, k: int, channels: int) -> Panel:
    """Figure 5: channels before and after aggregation, with their weights."""
    stage = e.stages[k]
    half, (height, width, _) = stage.query_value.shape[-1], e.image.shape
    title = f"Aggregation of stage {k + 1} ({described.aggregator})"
    if not stage.is_weighed:
        note = f"$F_a$ has {stage.feature.shape[-1]} channels, $V_q$ and $V_a$ {half} each."
        return Panel(title, note, {}, 1, 0)

    def heat_map(places: np.ndarray) -> Draw:
        return lambda axes: axes.imshow(_resized(places, e), "inferno", vmin=0, vmax=1)

    def before_and_after(n: int) -> Draw:
        maps = [_resized(x[..., n], e) for x in (stage.before, stage.feature)]
        gap = np.full((height, width // 30 + 1), np.nan)  # transparent
        pair = np.concatenate([maps[0], gap, maps[1]], axis=1)
        bound = max(np.nanmax(np.abs(pair)), 1e-12)
        return lambda axes: axes.imshow(pair, _SIGNED, vmin=-bound, vmax=bound)

    weights, by_place = stage.channel_weights, stage.place_weights
    tiles: dict[str, Draw] = {}
    if weights is not None and not np.any(stage.change):
        note = "No weights: $F_a$ is $V_q$ and $V_a$ side by side. Their strongest channels."
    elif weights is not None:
        note = "The channels of $V_q$ and $V_a$ that change most, with their weights."
    elif by_place is not None:
        note = "Places have weights, not channels (bright: 1); the channels that change most."
        for name, w in (("w_q", by_place[..., 0]), ("w_m", by_place[..., 1])):
            tiles[f"${name}$: {w.min():.2f} to {w.max():.2f}"] = heat_map(w)
    else:
        note = "The channels that change most; neither channels nor places have weights."

    for n in stage.strongest(channels).ravel():
        weight = "" if weights is None else f", weight {weights[n]:.2f}"
        caption = f"${'V_q' if n < half else 'V_a'}$, channel {n % half}{weight}"
        tiles[caption] = before_and_after(n)
    note += " Each before and after, on one scale; blue: below 0, orange: above 0."
    return Panel(title, note, tiles, 4, height / width / 2)


def _draw_box(axes: Axes, box, colour) -> None:
    """A box (x, y, width, height) in pixels, if it is not empty."""
    if box is not None and box[2:].all():
        x, y, width, height = box.tolist()
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour))


def _resized(places: np.ndarray, e: Explanation) -> np.ndarray:
    """Places `[H, W]` resized to the network's image, without padding."""
    size = (16 * places.shape[1], 16 * places.shape[0])
    return cv2.resize(places, size, interpolation=cv2.INTER_LINEAR)[e.crop]
