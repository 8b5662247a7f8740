"""Shapes of procedural videos and how they move: outlines that deform, places that change.

Lengths of a place are in frame heights, from the middle of the frame, x to the right, y down; an
outline's are its own unit, which its place scales. Time is in frames and may be fractional.
"""

import dataclasses
import functools
import math

import numpy as np

POINTS = 72  # of an outline
STILL = np.zeros((4, 3))


@dataclasses.dataclass(frozen=True)
class Outline:
    """A closed line around its own origin, which bulges and dents as waves run around it.

    Attributes:
      rest: float64 `[n, 2]`: the points of the line before they move.
      waves: float64 `[m, 4]`: amplitude (of the distance to the origin), periods around, phase
        and speed (both in radians, the latter a frame).
    """

    rest: np.ndarray
    waves: np.ndarray

    def at(self, time: float) -> np.ndarray:
        """The line at a time: float64 `[n, 2]`."""
        if not len(self.waves):
            return self.rest
        amplitude, around, phase, speed = self.waves.T
        angle = np.arctan2(self.rest[:, 1], self.rest[:, 0])
        stretch = np.cos(angle[:, None] * around + phase + speed * time) @ amplitude
        return self.rest * (1 + stretch)[:, None]

    @property
    def reach(self) -> float:
        """No point is ever further from the origin."""
        return float(np.hypot(*self.rest.T).max() * (1 + np.abs(self.waves[:, 0]).sum()))

    def alike(self, rng: np.random.Generator) -> "Outline":
        """The same outline at another moment of its deformation."""
        waves = self.waves.copy()
        waves[:, 2] += rng.uniform(-0.6, 0.6, len(waves))
        return dataclasses.replace(self, waves=waves)


@dataclasses.dataclass(frozen=True)
class Motion:
    """A place over time: x, y, angle (radians) and the logarithm of the size.

    Attributes:
      start: float64 `[4]`, at time 0.
      drift: float64 `[4]`, a frame.
      sway: float64 `[4, 3]`: amplitude, radians a frame, phase.
      away: how it leaves the frame, if it does: (first frame of the way out, first of the way back,
        frames that a way takes, x where it waits).
    """

    start: np.ndarray
    drift: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(4))
    sway: np.ndarray = dataclasses.field(default_factory=lambda: STILL)
    away: tuple[float, float, float, float] | None = None

    def at(self, time: float) -> np.ndarray:
        """The place as a matrix: float64 `[3, 3]`, from the outline's unit to frame heights."""
        return self._at(time) if self._still is None else self._still

    @functools.cached_property
    def _still(self) -> np.ndarray | None:
        """The place where it never changes, as most joints'; else None."""
        moves = self.drift.any() or self.sway[:, 0].any() or self.away is not None
        return None if moves else self._at(0.0)

    def _at(self, time: float) -> np.ndarray:
        x, y, angle, size = (
            start + drift * time + amplitude * (math.sin(speed * time + phase) - math.sin(phase))
            for start, drift, (amplitude, speed, phase) in zip(
                self.start.tolist(), self.drift.tolist(), self.sway.tolist(), strict=True
            )
        )
        if self.away is not None:
            leaves, returns, takes, outside = self.away
            gone = _ease((time - leaves) / takes) - _ease((time - returns) / takes)
            x += gone * (outside - x)
        scale = math.exp(size)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        return np.array([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])


def _ease(share: float) -> float:
    """0 before 0, 1 after 1, smooth in between."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def blob(rng: np.random.Generator) -> Outline:
    """A smooth round thing, longer than wide, with lasting bulges and waves that run around it."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    around = np.arange(2, 6)
    bulges = rng.normal(0, 0.22, 4) / around
    radius = 1 + np.cos(angle[:, None] * around + rng.uniform(0, 2 * np.pi, 4)) @ bulges
    rest = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Outline(rest * _slender(rng, 0.55), _waves(rng, 0.09))


def polygon(rng: np.random.Generator) -> Outline:
    """Straight sides and sharp corners, convex or a star, that shears and swells a little."""
    corners = int(rng.integers(3, 8))
    star = corners > 3 and rng.random() < 0.5
    count = 2 * corners if star else corners
    turn = 2 * np.pi / count
    angle = turn * (np.arange(count) + rng.uniform(-0.2, 0.2, count))
    radius = rng.uniform(0.85, 1.15, count)
    if star:
        radius[1::2] *= rng.uniform(0.45, 0.75)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    share = np.linspace(0, 1, POINTS // count, endpoint=False)[:, None]  # points along a side
    sides = points[:, None] + (np.roll(points, -1, axis=0) - points)[:, None] * share
    return Outline(sides.reshape(-1, 2) * _slender(rng, 0.7), _waves(rng, 0.06))


def ellipse(length: float, width: float, waves: np.ndarray | None = None) -> Outline:
    """An ellipse around the origin; `length` and `width` are half its axes."""
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    rest = np.stack([length * np.cos(angle), width * np.sin(angle)], axis=1)
    return Outline(rest, np.zeros((0, 4)) if waves is None else waves)


def limb(length: float, width: float) -> Outline:
    """A rounded rod along +x, which is fixed to the body at its origin, inside its near end."""
    half = np.linspace(-np.pi / 2, np.pi / 2, POINTS // 2)
    cap = width * np.stack([np.cos(half), np.sin(half)], axis=1)
    far = cap * 0.8 + (length, 0.0)  # a little thinner towards its end
    return Outline(np.concatenate([far, -cap]), np.zeros((0, 4)))


def wander(
    rng: np.random.Generator, start: np.ndarray, spread: np.ndarray, period: tuple[float, float]
) -> Motion:
    """A motion from a start that sways by up to `spread` `[4]`, each swing of its own period."""
    amplitude = spread * rng.uniform(0.2, 1.0, 4)
    speed = 2 * np.pi / rng.uniform(*period, 4)
    sway = np.stack([amplitude, speed, rng.uniform(0, 2 * np.pi, 4)], axis=1)
    return Motion(start, np.zeros(4), sway)


def swing(rng: np.random.Generator, hinge: np.ndarray, angle: float, size: float = 1.0) -> Motion:
    """The place of a limb in its body: fixed at `hinge` `[2]`, swinging about `angle`."""
    sway = STILL.copy()
    sway[2] = rng.uniform(0.25, 0.7), 2 * np.pi / rng.uniform(10, 26), rng.uniform(0, 2 * np.pi)
    return Motion(np.array([*hinge, angle, np.log(size)]), np.zeros(4), sway)


def _slender(rng: np.random.Generator, least: float) -> np.ndarray:
    """Factors of x and y of one area, y up to `least` of x."""
    ratio = np.sqrt(rng.uniform(least, 1))
    return np.array([1 / ratio, ratio])


def _waves(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Two or three waves of 2 to 4 periods around."""
    count = int(rng.integers(2, 4))
    around = rng.integers(2, 5, count)
    speed = rng.choice([-1, 1], count) * 2 * np.pi / rng.uniform(12, 40, count)
    amplitude = strength * rng.uniform(0.4, 1, count)
    return np.stack([amplitude, around, rng.uniform(0, 2 * np.pi, count), speed], axis=1)
