"""The content of a procedural video, at any time and any resolution.

A scene is a textured background that drifts and, above it from back to front, figures: the objects
to follow, look-alikes of an object, and clutter fixed to the background, some of it in front of the
objects. Lengths are in frame heights from the centre of the frame, x to the right, y down; times
are in frames.
"""

import dataclasses
import math

import numpy as np

from data_pipeline.synthetic.textures import Texture, draw_texture

LENGTH = 24  # frames
EDGE = np.array([8 / 9, 0.5])  # of a 16:9 frame, from its centre
DETAIL = 240.0  # pixels of a texture's tile per frame height, approximately
COUNTS = {1: 0.35, 2: 0.35, 3: 0.2, 4: 0.1}  # number of objects: probability
MIN_CONTRAST = 45.0  # RGB distance between the mean colours of an object and the background
ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)  # at which an outline is sampled


@dataclasses.dataclass(frozen=True)
class Motion:
    """A place over time: x, y, angle in radians and log size, each swinging about its start.

    Attributes:
      start: float64 `[4]`, at time 0.
      sway: float64 `[3, 4]`: amplitude, radians per frame, phase.
    """

    start: np.ndarray
    sway: np.ndarray

    def at(self, time: float) -> np.ndarray:
        """The place as a matrix: float64 `[3, 3]`, from the figure's own unit to frame heights."""
        amplitude, speed, phase = self.sway
        swing = amplitude * (np.sin(speed * time + phase) - np.sin(phase))
        x, y, angle, size = (self.start + swing).tolist()
        cos, sin = math.exp(size) * math.cos(angle), math.exp(size) * math.sin(angle)
        return np.array([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])


@dataclasses.dataclass(frozen=True)
class Figure:
    """A textured shape whose outline bulges as waves run around it.

    Attributes:
      label: 1..n of an object, 0 of the background.
      radius: float64 `[72]`: the outline at `ANGLES`, before the waves.
      waves: float64 `[4, m]`: amplitude relative to the radius, periods around, phase, radians per
        frame.
      texture: its surface.
      motion: its place.
    """

    label: int
    radius: np.ndarray
    waves: np.ndarray
    texture: Texture
    motion: Motion

    def outline(self, time: float) -> np.ndarray:
        """The outline at a time: float64 `[72, 2]`, x and y in the figure's own unit."""
        amplitude, periods, phase, speed = self.waves
        stretch = np.cos(ANGLES[:, None] * periods + phase + speed * time) @ amplitude
        radius = self.radius * np.maximum(1 + stretch, 0.3)
        return radius[:, None] * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A video before it is rendered.

    Attributes:
      background: its texture.
      camera: the background's place in the frame.
      figures: from back to front.
      noise: standard deviation of the sensor's noise, in grey levels of 255.
    """

    background: Texture
    camera: Motion
    figures: tuple[Figure, ...]
    noise: float

    @property
    def labels(self) -> set[int]:
        """The labels of the objects, 1..n."""
        return {figure.label for figure in self.figures} - {0}


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draws a scene, whose objects are not guaranteed to be visible."""
    background = draw_texture(rng, DETAIL)
    drift = _sway(rng, rng.random() * np.array([0.35, 0.15, 0, 0]), (40, 120))
    count = int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    movers = [_mover(rng, label, background) for label in range(1, count + 1)]
    first = movers[0]
    if count > 1 and rng.random() < 0.4:
        movers[1] = _look_alike(rng, first, label=2)
    if rng.random() < 0.3:
        k = int(rng.integers(count))
        movers[k] = _leaving(rng, movers[k])
    for _ in range(rng.choice(3, p=[0.45, 0.35, 0.2])):
        movers.append(_look_alike(rng, first, label=0))
    rng.shuffle(movers)
    # Clutter drifts with the background.
    behind = [_figure(rng, 0, _path(rng, 1.2, drift)) for _ in range(rng.integers(1, 5))]
    before = [_figure(rng, 0, _path(rng, 0.6, drift)) for _ in range(rng.random() < 0.4)]
    camera = Motion(np.zeros(4), drift)
    return Scene(background, camera, (*behind, *movers, *before), noise=rng.uniform(0, 6))


def _mover(rng: np.random.Generator, label: int, background: Texture) -> Figure:
    """A figure on a path of its own, in a colour unlike the background's."""
    motion = _path(rng)
    while True:
        figure = _figure(rng, label, motion)
        if np.linalg.norm(figure.texture.colour - background.colour) >= MIN_CONTRAST:
            return figure


def _look_alike(rng: np.random.Generator, other: Figure, *, label: int) -> Figure:
    """A figure of the same shape, almost the same colour, that starts in the other half."""
    motion = _path(rng)
    motion.start[0] = -math.copysign(motion.start[0], other.motion.start[0])
    motion.start[3] = other.motion.start[3] + rng.uniform(-0.15, 0.15)
    shade = rng.uniform(-6, 6, (3, 1)) * (0, 1)
    texture = dataclasses.replace(other.texture, mix=other.texture.mix + shade)
    return dataclasses.replace(other, label=label, texture=texture, motion=motion)


def _leaving(rng: np.random.Generator, figure: Figure) -> Figure:
    """The figure on a path that leaves the frame to the left or right, and ends where it began."""
    start, (amplitude, speed, phase) = figure.motion.start, figure.motion.sway.copy()
    reach = (
        figure.radius.max()
        * (1 + np.abs(figure.waves[0]).sum())
        * np.exp(start[3] + 2 * amplitude[3])
    )
    outside = rng.choice([-1, 1]) * (EDGE[0] + reach)
    # x(t) = start + 1.2 (outside - start) sin²(π t / (LENGTH - 1))
    amplitude[0] = 0.6 * (outside - start[0])
    speed[0], phase[0] = 2 * np.pi / (LENGTH - 1), -np.pi / 2
    return dataclasses.replace(figure, motion=Motion(start, np.stack([amplitude, speed, phase])))


def _figure(rng: np.random.Generator, label: int, motion: Motion) -> Figure:
    """A blob or a star on this path."""
    radius = np.ones_like(ANGLES)
    if rng.random() < 0.4:
        corners, depth = rng.integers(3, 8), rng.uniform(0.15, 0.6)
        radius = 1.2 - depth * np.abs(2 * (ANGLES * corners / (2 * np.pi) % 1) - 1)
    periods = np.arange(2, 6)
    amplitude, phase = rng.normal(0, 0.25, 4) / periods, rng.uniform(0, 2 * np.pi, 4)
    speed = rng.choice([-1, 1], 4) * 2 * np.pi / rng.uniform(12, 40, 4)
    waves = np.stack([amplitude, periods, phase, speed])
    texture = draw_texture(rng, DETAIL * np.exp(motion.start[3]))
    return Figure(label, radius, waves, texture, motion)


def _path(rng: np.random.Generator, spread: float = 0.6, sway: np.ndarray | None = None) -> Motion:
    """A path that starts within `spread` of the frame, with a sway of its own unless given."""
    x, y = rng.uniform(-spread, spread, 2) * EDGE
    size = rng.uniform(np.log(0.15), np.log(0.3))
    start = np.array([x, y, rng.uniform(0, 2 * np.pi), size])
    if sway is None:
        most = np.exp(rng.uniform(-1.2, 0)) * np.array([0.6, 0.3, 1.2, 0.25])
        sway = _sway(rng, most, (20, 60))
    return Motion(start, sway)


def _sway(rng: np.random.Generator, most: np.ndarray, period: tuple[float, float]) -> np.ndarray:
    """Amplitudes up to `most` `[4]`, with periods drawn from this range of frames."""
    amplitude = most * rng.uniform(0.2, 1, 4)
    return np.stack([amplitude, 2 * np.pi / rng.uniform(*period, 4), rng.uniform(0, 2 * np.pi, 4)])
