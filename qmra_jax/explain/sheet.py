"""An `Explanation` as one picture: what the network answers, what it reads, what it weighs.

Everything is uint8 `[h, w, 3]` RGB. Values in [0, 1] are shown from dark to bright; channels, which
have signs, from blue through black to yellow, before and after on one scale.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from qmra_jax.boxes import scale_boxes
from qmra_jax.drawing import object_colour, overlay
from qmra_jax.explain.explanation import Explanation, Stage
from qmra_jax.explain.layout import Panel, Tile, columns_width, lay_out, text_width, write

MOST_FRAMES = 15  # memory frames on a sheet: those that count most
_BRIGHT = 0.995  # of the places are darker than the brightest: one alone would darken all others
_FRAMES_A_ROW, _CHANNELS_A_ROW = 5, 4
_OBJECT = object_colour(1)
_ADDED, _REMOVED = np.array([64, 160, 255]), np.array([255, 140, 30])  # told apart by all eyes
_SIGNED = np.array([[120, 220, 255], [20, 80, 190], [12, 12, 16], [190, 90, 10], [255, 225, 110]])
_ARROW = 62  # pixels between a channel before and after


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


def draw_sheet(explanation: Explanation, described: Described, *, channels: int = 4) -> np.ndarray:
    """The whole sheet.

    Args:
      explanation: of a frame.
      described: its video and network.
      channels: of V_q and of V_a to show, each: those that change most.

    Returns:
      uint8 `[h, w, 3]`, 1600 pixels wide.
    """
    title = f"Frame {explanation.number} of {described.video}"
    stages, numbers = len(explanation.stages), explanation.memory_numbers
    refine = f", refine {described.refine}" if stages == 2 else ""
    note = (
        f"{stages} stage{'s' * (stages > 1)}, reader {described.reader}, aggregator"
        f" {described.aggregator}{refine}; frame{'s' * (len(numbers) > 1)} in memory:"
        f" {_listed(numbers)}"
    )
    return lay_out(title, note, panels(explanation, described, channels))


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


def _answers(e: Explanation, described: Described) -> Panel:
    """The frame, stage 1's map, S_q and S_q^r, where they differ, and the label."""
    outputs, of_stage1 = dict(e.outputs), len(e.stages) > 1
    tiles = [Tile(_mark(e.image.copy(), e), "the frame; the ring is the query pixel")]
    if of_stage1:
        box = outputs.pop("box")
        where = ",".join(map(str, e.box)) if e.box.any() else "nothing above one half"
        tiles.append(
            Tile(_probability(e.image, box, e), f"B_q, stage 1's {described.align}: {where}")
        )
    names = {"mask": "S_q, the mask of stage 2" if of_stage1 else "S_q, the only stage's mask"}
    names["refined"] = "S_q^r, refined by CRM"
    for name, probability in outputs.items():
        tiles.append(Tile(_probability(e.image, probability), names[name]))
    absent = ""
    if not of_stage1:
        absent = "One stage: there is no B_q and no S_q^r."
    elif "refined" not in outputs:
        absent = f"Refine {described.refine}: there is no S_q^r to compare."
    else:
        tiles.append(_difference(e.image, outputs["mask"] > 0.5, outputs["refined"] > 0.5))
    labelled = cv2.resize(e.labels, e.image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    share = (e.labels != 0).mean()
    tiles.append(Tile(overlay(e.image, labelled), f"the final label: {share:.1%} of the frame"))
    height, width = e.image.shape[:2]
    columns = min(3 if width >= height else 6, len(tiles))
    note = "Tint: probability; outline: one half. " + absent
    return Panel("What the network answers", note, [tiles], columns)


def _attention(e: Explanation, described: Described, k: int) -> Panel:
    """A heat map over each memory frame, on one scale, and the frame's share under it."""
    places = e.stages[k].attention
    shares, bright = places.sum(axis=(1, 2)), max(np.quantile(places, _BRIGHT), 1e-12)
    kept = np.sort(np.argsort(-shares, kind="stable")[:MOST_FRAMES])
    boxes = scale_boxes(e.memory_boxes, e.labels.shape, e.image.shape[:2])
    x, y = e.pixel
    note = (
        f"What the query pixel {x},{y} reads from the memory: the share of each frame, and of its"
        f" places of 16x16 pixels, brightest from {bright:.2%} on (if all {places.size} were alike:"
        f" {1 / places.size:.2%}). White: the box of the object in that frame."
    )
    if len(kept) < len(places):
        note += f" {len(kept)} of {len(places)} frames, which hold {shares[kept].sum():.1%}."
    if described.reader.partition(":")[0] == "none":
        note += " No read: the mean of all frames at the same place."
    tiles = []
    for i in kept:
        image = _heat(e.memory_images[i], _spread(places[i] / bright, e))
        x, y, width, height = boxes[i].tolist()
        if width and height:
            cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), (255, 255, 255), 1)
        tiles.append(Tile(image, f"frame {e.memory_numbers[i]}: {shares[i]:.1%}"))
    title = f"Attention of stage {k + 1} ({described.reader})"
    rows = -(-len(tiles) // _FRAMES_A_ROW)
    height, width = e.image.shape[:2]
    least = 3 if width >= height else _FRAMES_A_ROW
    return Panel(title, note, [tiles], max(least, -(-len(tiles) // rows)))


def _aggregation(e: Explanation, described: Described, k: int, channels: int) -> Panel:
    """Figure 5: channels before and after, their weights on the arrows."""
    stage, name = e.stages[k], described.aggregator
    title = f"Aggregation of stage {k + 1} ({name})"
    if not stage.is_weighed:
        c, c_a = stage.query_value.shape[-1], stage.feature.shape[-1]
        note = f"F_a has {c_a} channels, which are none of the {c} of V_q and {c} of V_a: no panel."
        return Panel(title, note, [], 1)
    weights, by_place = stage.channel_weights, stage.place_weights
    rows = []
    if weights is not None and not stage.change.any():  # type: ignore[union-attr]
        title += ": nothing is weighed"
        note = "F_a is V_q and V_a side by side. Their strongest channels."
    elif weights is not None:
        title += ": channels before and after"
        note = "The channels of V_q and V_a that change most; on the arrows their weights."
    elif by_place is not None:
        title += ": places are weighed, not channels"
        note = "The weights of places, and the channels that they change most."
        rows.append(_place_weights(e, by_place))
    else:
        title += ": channels before and after"
        note = "The channels that change most, each by no one weight of its channel or its places."
    note += " Blue below 0, yellow above; a pair has one scale."
    for half, numbers in zip(("V_q", "V_a"), stage.strongest(channels), strict=True):
        rows.append([_channel(e, stage, half, int(n), weights) for n in numbers])
    return Panel(title, note, rows, _CHANNELS_A_ROW)


def _place_weights(e: Explanation, weights: np.ndarray) -> list[Tile]:
    captions = ("w_q of V_q", "w_m of V_a")
    tiles = []
    for w, caption in zip(np.moveaxis(weights, -1, 0), captions, strict=True):
        image = cv2.applyColorMap(_bytes(_spread(w, e)), cv2.COLORMAP_INFERNO)[..., ::-1]
        tiles.append(Tile(image, f"{caption}: {w.min():.2f} to {w.max():.2f}, bright is 1"))
    return tiles


def _channel(e: Explanation, stage: Stage, half: str, n: int, weights: np.ndarray | None) -> Tile:
    """A channel before and after, an arrow between them."""
    width = (columns_width(_CHANNELS_A_ROW) - _ARROW) // 2
    height = round(width * e.image.shape[0] / e.image.shape[1])
    maps = [_spread(x[..., n], e) for x in (stage.before, stage.feature)]
    scale = max(np.abs(maps[0]).max(), np.abs(maps[1]).max(), 1e-12)
    pair = [cv2.resize(_signed(x / scale), (width, height)) for x in maps]
    arrow = np.full((height, _ARROW, 3), 255, np.uint8)
    middle, ink = height // 2, (60, 60, 67)
    cv2.line(arrow, (10, middle), (_ARROW - 18, middle), ink, 2, cv2.LINE_AA)
    head = np.array([[_ARROW - 20, middle - 6], [_ARROW - 20, middle + 6], [_ARROW - 9, middle]])
    cv2.fillConvexPoly(arrow, head, ink, cv2.LINE_AA)
    if weights is not None:
        text = f"{weights[n]:.2f}"
        write(arrow, ((_ARROW - text_width(text, 17)) / 2, middle - 12), text, 17)
    number = n - (half == "V_a") * stage.query_value.shape[-1]
    return Tile(np.concatenate([pair[0], arrow, pair[1]], axis=1), f"{half}, channel {number}")


def _probability(image, probability, e: Explanation | None = None) -> np.ndarray:
    """A map over the frame, with stage 1's box if `e` is given."""
    tint = (_OBJECT - image.astype(np.float32)) * 0.6 * probability[..., None]
    tinted = np.round(image + tint).astype(np.uint8)
    boxes = None if e is None else scale_boxes(e.box[None], e.labels.shape, image.shape[:2])
    return overlay(tinted, (probability > 0.5).astype(np.uint8), boxes, alpha=0)


def _difference(image, mask, refined) -> Tile:
    """Where S_q^r has more or less than S_q, over a pale frame."""
    pale = _grey(image) * 0.5 + 110
    added, removed = refined & ~mask, mask & ~refined
    pale[mask & refined] = pale[mask & refined] * 0.6
    pale[added], pale[removed] = _ADDED, _REMOVED
    size = max(mask.sum(), 1)
    caption = f"S_q to S_q^r: +{added.sum() / size:.1%} blue, -{removed.sum() / size:.1%} orange"
    return Tile(pale.round().astype(np.uint8), caption)


def _mark(image: np.ndarray, e: Explanation) -> np.ndarray:
    """A ring about the query pixel."""
    at = [
        int((v + 0.5) * small / size)
        for v, small, size in zip(e.pixel, image.shape[1::-1], e.labels.shape[::-1], strict=True)
    ]
    radius = max(4, image.shape[0] // 40)
    for colour, thickness in (((20, 20, 24), radius // 2 + 2), ((255, 255, 255), radius // 4 + 1)):
        cv2.circle(image, at, radius, colour, thickness, cv2.LINE_AA)
    return image


def _heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat in [0, 1] over the frame in grey: the hotter, the less of the frame."""
    colours = cv2.applyColorMap(_bytes(heat), cv2.COLORMAP_INFERNO)[..., ::-1]
    cover = 0.9 * np.sqrt(heat.clip(0, 1))[..., None]
    return np.round(_grey(image) * 0.7 * (1 - cover) + colours * cover).astype(np.uint8)


def _spread(places: np.ndarray, e: Explanation) -> np.ndarray:
    """Places `[H, W]` over the pixels of the network's image, padding cut off."""
    size = (16 * places.shape[1], 16 * places.shape[0])
    return cv2.resize(places, size, interpolation=cv2.INTER_LINEAR)[e.crop]


def _signed(x: np.ndarray) -> np.ndarray:
    """[-1, 1] -> colours."""
    at = np.linspace(-1, 1, len(_SIGNED))
    return np.stack([np.interp(x, at, c) for c in _SIGNED.T], axis=-1).round().astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """In grey, float32 `[h, w, 3]`."""
    return np.repeat(image.mean(axis=-1, keepdims=True, dtype=np.float32), 3, axis=-1)


def _bytes(x: np.ndarray) -> np.ndarray:
    return (x.clip(0, 1) * 255).round().astype(np.uint8)


def _listed(numbers: Sequence[int]) -> str:
    shown = [str(n) for n in numbers]
    return ", ".join(shown if len(shown) < 20 else [*shown[:10], "...", *shown[-5:]])
