"""What happens in a procedural video: drawn at random, then true at any time and in any size.

A scene is a textured background under a wandering camera and, above it in depth order, figures:
the objects that are to be followed, and things that belong to the background: fixed clutter,
something that hides what passes behind it, and look-alikes of an object. Lengths are in frame
heights from the middle of the frame, x to the right, y down; time is in frames, and may be
fractional.
"""

import dataclasses
import math

import numpy as np

from data_pipeline.synthetic.textures import Texture, draw_texture

LENGTH = 24  # frames
EDGE = np.array([8 / 9, 0.5])  # of a 16:9 frame, from its middle
DETAIL = 240.0  # pixels of a texture's tile that a frame height covers, roughly
COUNTS = {1: 0.35, 2: 0.35, 3: 0.2, 4: 0.1}  # objects, and the chance of so many
TELLS_APART = 45.0  # distance of an object's mean colour from the background's, in RGB
POINTS = 72  # of an outline


@dataclasses.dataclass(frozen=True)
class Motion:
    """A place over time: x, y, angle (radians) and the logarithm of the size.

    Attributes:
      start: float64 `[4]`, at time 0.
      sway: float64 `[4, 3]`: amplitude, radians a frame, phase.
      away: how it leaves the frame, if it does: (first frame of the way out, first of the way back,
        frames that a way takes, x where it waits).
    """

    start: np.ndarray
    sway: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((4, 3)))
    away: tuple[float, float, float, float] | None = None

    def at(self, time: float) -> np.ndarray:
        """The place as a matrix: float64 `[3, 3]`, from its own unit to frame heights."""
        amplitude, speed, phase = self.sway.T
        swung = amplitude * (np.sin(speed * time + phase) - np.sin(phase))
        x, y, angle, size = (self.start + swung).tolist()
        if self.away is not None:
            leaves, returns, takes, outside = self.away
            gone = _ease((time - leaves) / takes) - _ease((time - returns) / takes)
            x += gone * (outside - x)
        cos, sin = math.exp(size) * math.cos(angle), math.exp(size) * math.sin(angle)
        return np.array([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Figure:
    """Something at its depth in a scene: an outline that bulges as waves run around it.

    Attributes:
      label: 1..n of an object, 0 where it belongs to the background.
      rest: float64 `[n, 2]`: the outline before it moves, in its own unit, around its origin.
      waves: float64 `[m, 4]`: amplitude (of the distance to the origin), periods around, phase
        and speed (both in radians, the latter a frame).
      texture: what it is made of.
      motion: where it is.
      fixed: it is fixed to the background, and moves with the camera.
    """

    label: int
    rest: np.ndarray
    waves: np.ndarray
    texture: Texture
    motion: Motion
    fixed: bool = False

    def outline(self, time: float) -> np.ndarray:
        """The line at a time: float64 `[n, 2]`, in its own unit."""
        amplitude, around, phase, speed = self.waves.T
        angle = np.arctan2(self.rest[:, 1], self.rest[:, 0])
        stretch = np.cos(angle[:, None] * around + phase + speed * time) @ amplitude
        return self.rest * (1 + stretch)[:, None]

    def alike(self, rng: np.random.Generator, label: int, motion: Motion) -> "Figure":
        """Another of the same kind: form and stuff alike, at another moment and place."""
        waves = self.waves.copy()
        waves[:, 2] += rng.uniform(-0.6, 0.6, len(waves))
        start = motion.start.copy()
        start[3] = self.motion.start[3] + rng.uniform(-0.15, 0.15)
        motion = dataclasses.replace(motion, start=start)
        return Figure(label, self.rest, waves, self.texture.alike(rng), motion)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A video, but for its size in pixels.

    Attributes:
      background: what is behind everything.
      camera: the background's place in the frame.
      figures: from the back to the front.
      light: float64 `[3, 4, 3]`: gain of the light on a coarse grid of the frame, for each colour.
      grain: standard deviation of the sensor's noise, in grey levels of 255.
    """

    background: Texture
    camera: Motion
    figures: tuple[Figure, ...]
    light: np.ndarray
    grain: float

    @property
    def labels(self) -> tuple[int, ...]:
        """Of the objects, 1..n."""
        return tuple(sorted({figure.label for figure in self.figures} - {0}))

    @property
    def leavers(self) -> tuple[int, ...]:
        """Labels of the objects that leave the frame and return."""
        return tuple(figure.label for figure in self.figures if figure.motion.away)

    def place(self, figure: Figure, time: float) -> np.ndarray:
        """Where a figure is: float64 `[3, 3]`, from its outline's unit to frame heights."""
        place = figure.motion.at(time)
        return self.camera.at(time) @ place if figure.fixed else place


def draw_scene(rng: np.random.Generator, *, plain: bool = False) -> Scene:
    """A scene, in which nothing yet says that its objects can be seen.

    Args:
      rng: where everything random comes from.
      plain: one object, and nothing before it.
    """
    background = draw_texture(rng, DETAIL)
    spread = rng.random() * np.array([0.35, 0.15, 0.1, 0.2])
    camera = Motion(np.zeros(4), _sway(rng, spread, (40, 120)))
    count = 1 if plain else int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    movers = [_figure(rng, label, _path(rng), background) for label in range(1, count + 1)]
    first = movers[0]
    if count > 1 and rng.random() < 0.4:  # two objects to be told apart
        movers[1] = first.alike(rng, 2, _beside(rng, first.motion))
    if rng.random() < 0.3:
        k = int(rng.integers(count))
        movers[k] = dataclasses.replace(movers[k], motion=_leaving(rng, movers[k]))
    for _ in range(0 if plain else int(rng.choice(3, p=[0.45, 0.35, 0.2]))):  # one is not asked for
        movers.append(first.alike(rng, 0, _beside(rng, first.motion)))
    rng.shuffle(movers)
    behind = [_clutter(rng, 1.2) for _ in range(int(rng.integers(1, 5)))]
    before = [_clutter(rng, 0.6) for _ in range(int(not plain and rng.random() < 0.4))]
    light = 1 + rng.uniform(0, 0.35) * rng.uniform(-1, 1, (3, 4, 1))
    tint = 1 + rng.uniform(-0.08, 0.08, 3)
    return Scene(
        background, camera, (*behind, *movers, *before), light * tint, grain=rng.uniform(0, 6)
    )


def _figure(
    rng: np.random.Generator, label: int, motion: Motion, background: Texture | None = None
) -> Figure:
    """A blob or a polygon, of a colour unlike the background's."""
    size = np.exp(rng.uniform(np.log(0.1), np.log(0.27)))
    texture = draw_texture(rng, DETAIL * size)
    while background and np.linalg.norm(texture.colour - background.colour) < TELLS_APART:
        texture = draw_texture(rng, DETAIL * size)
    start = motion.start.copy()
    start[3] = np.log(size)
    is_blob = rng.random() < 0.6
    slender = np.sqrt(rng.uniform(0.5, 1))
    rest = (blob(rng) if is_blob else polygon(rng)) * (1 / slender, slender)
    count = int(rng.integers(2, 4))
    waves = np.stack(
        [
            (0.12 if is_blob else 0.06) * rng.uniform(0.4, 1, count),
            rng.integers(2, 5, count),
            rng.uniform(0, 2 * np.pi, count),
            rng.choice([-1, 1], count) * 2 * np.pi / rng.uniform(12, 40, count),
        ],
        axis=1,
    )
    return Figure(label, rest, waves, texture, dataclasses.replace(motion, start=start))


def blob(rng: np.random.Generator) -> np.ndarray:
    """The outline of a smooth round thing with bulges: float64 `[POINTS, 2]`, about 1 in radius."""
    angle, around = np.linspace(0, 2 * np.pi, POINTS, endpoint=False), np.arange(2, 6)
    bulges = rng.normal(0, 0.3, 4) / around
    radius = 1 + np.cos(angle[:, None] * around + rng.uniform(0, 2 * np.pi, 4)) @ bulges
    return np.maximum(radius, 0.3)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def polygon(rng: np.random.Generator) -> np.ndarray:
    """Straight sides and sharp corners, convex or a star: float64 `[n, 2]`, about 1 in radius."""
    corners = int(rng.integers(3, 8))
    star = corners > 3 and rng.random() < 0.5
    count = 2 * corners if star else corners
    angle = 2 * np.pi / count * (np.arange(count) + rng.uniform(-0.2, 0.2, count))
    radius = rng.uniform(0.85, 1.15, count)
    if star:
        radius[1::2] *= rng.uniform(0.45, 0.75)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    share = np.linspace(0, 1, POINTS // count, endpoint=False)[:, None]  # points along a side
    sides = points[:, None] + (np.roll(points, -1, axis=0) - points)[:, None] * share
    return sides.reshape(-1, 2)


def _sway(rng: np.random.Generator, spread: np.ndarray, period: tuple[float, float]) -> np.ndarray:
    """Swings of up to `spread` `[4]`, each with a period of its own, in frames."""
    speed = 2 * np.pi / rng.uniform(*period, 4)
    return np.stack([spread * rng.uniform(0.2, 1, 4), speed, rng.uniform(0, 2 * np.pi, 4)], axis=1)


def _path(rng: np.random.Generator) -> Motion:
    """How an object moves: it starts well inside the frame."""
    x, y = rng.uniform(-0.6, 0.6, 2) * EDGE
    spread = np.exp(rng.uniform(-1.2, 0)) * np.array([0.6, 0.3, 1.2, 0.25])
    start = np.array([x, y, rng.uniform(0, 2 * np.pi), 0.0])
    return Motion(start, _sway(rng, spread, (20, 60)))


def _beside(rng: np.random.Generator, other: Motion) -> Motion:
    """A path of its own that starts on the other side of the frame."""
    motion = _path(rng)
    motion.start[0] = -math.copysign(motion.start[0], other.start[0])
    return motion


def _leaving(rng: np.random.Generator, figure: Figure) -> Motion:
    """Its path, but for a while outside the frame, left or right of it."""
    motion = figure.motion
    growth = np.exp(motion.start[3] + 2 * motion.sway[3, 0])
    reach = growth * np.hypot(*figure.rest.T).max() * (1 + figure.waves[:, 0].sum())
    leaves, takes = rng.uniform(3, 6), rng.uniform(4, 5)
    away = (
        leaves,
        leaves + takes + rng.uniform(2, 4),
        takes,
        rng.choice([-1, 1]) * (EDGE[0] + reach),
    )
    return dataclasses.replace(motion, away=away)


def _clutter(rng: np.random.Generator, far: float) -> Figure:
    """A figure at a place on the background, at most so `far` from the middle (an edge is at 1)."""
    x, y = rng.uniform(-far, far, 2) * EDGE
    motion = Motion(np.array([x, y, rng.uniform(0, 2 * np.pi), 0.0]))
    return dataclasses.replace(_figure(rng, 0, motion), fixed=True)


def _ease(share: float) -> float:
    """0 before 0, 1 after 1, smooth in between."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)
