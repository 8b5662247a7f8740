"""What happens in a procedural video: drawn at random, then true at any time and in any size.

A scene is a textured background under a wandering camera and, above it in depth order, figures:
the objects that are to be followed, and things that belong to the background: fixed clutter,
something that hides what passes behind it, and look-alikes of an object.
"""

import dataclasses

import numpy as np

from data_pipeline.synthetic import shapes
from data_pipeline.synthetic.shapes import Motion, Outline
from data_pipeline.synthetic.textures import Material, draw_material

LENGTH = 24  # frames
EDGE = (8 / 9, 0.5)  # of a 16:9 frame from its middle, in frame heights
DETAIL = 240.0  # pixels of a texture's tile that a frame height covers, roughly
COUNTS = {1: 0.35, 2: 0.35, 3: 0.2, 4: 0.1}  # objects, and the chance of so many
TELLS_APART = 45.0  # distance of an object's mean colour from the background's, in RGB

Figure = tuple["Part", ...]
"""Parts of one body, from the back to the front."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A rigidly textured piece of a figure.

    Attributes:
      outline: its line, in its own unit.
      material: what it is made of.
      joint: where it sits in its figure.
    """

    outline: Outline
    material: Material
    joint: Motion


@dataclasses.dataclass(frozen=True)
class Layer:
    """A part at its depth in a scene.

    Attributes:
      label: 1..n of an object, 0 where it belongs to the background.
      part: what is seen.
      motion: of its figure.
      fixed: it is fixed to the background, and moves with the camera.
    """

    label: int
    part: Part
    motion: Motion
    fixed: bool


@dataclasses.dataclass(frozen=True)
class Scene:
    """A video, but for its size in pixels.

    Attributes:
      background: what is behind everything.
      camera: the background's place in the frame.
      layers: from the back to the front.
      light: float64 `[3, 4, 3]`: gain of the light on a coarse grid of the frame, for each colour.
      flicker: float64 `[3, 4, 3]`: for each grid point, amplitude, speed and phase of its change.
      shutter: share of a frame's time that it is exposed, which blurs what moves.
      softness: standard deviation of the lens's blur, in pixels of a frame 240 high.
      grain: standard deviation of the sensor's noise, in grey levels of 255.
    """

    background: Material
    camera: Motion
    layers: tuple[Layer, ...]
    light: np.ndarray
    flicker: np.ndarray
    shutter: float
    softness: float
    grain: float

    @property
    def labels(self) -> tuple[int, ...]:
        """Of the objects, 1..n."""
        return tuple(sorted({layer.label for layer in self.layers} - {0}))

    @property
    def leavers(self) -> tuple[int, ...]:
        """Labels of the objects that leave the frame and return."""
        return tuple(sorted({layer.label for layer in self.layers if layer.motion.away} - {0}))

    def place(self, layer: Layer, time: float) -> np.ndarray:
        """Where a layer is: float64 `[3, 3]`, from its outline's unit to frame heights."""
        place = layer.motion.at(time) @ layer.part.joint.at(time)
        return self.camera.at(time) @ place if layer.fixed else place


def draw_scene(rng: np.random.Generator, *, plain: bool = False) -> Scene:
    """A scene, in which nothing yet says that its objects can be seen.

    Args:
      rng: where everything random comes from.
      plain: one object, and nothing before it.
    """
    background = draw_material(rng, DETAIL)
    camera = shapes.wander(
        rng, np.zeros(4), rng.random() * np.array([0.35, 0.15, 0.1, 0.2]), (40, 120)
    )
    count = 1 if plain else int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    leaver = int(rng.integers(1, count + 1)) if rng.random() < 0.3 else 0
    figures = [_figure(rng, background) for _ in range(count)]
    movers = [(label, figure, _path(rng)) for label, figure in enumerate(figures, start=1)]
    if count > 1 and rng.random() < 0.4:  # two objects to be told apart
        movers[1] = (2, _alike(rng, figures[0]), _beside(rng, movers[0][2]))
    for _ in range(0 if plain else int(rng.choice(3, p=[0.45, 0.35, 0.2]))):  # one is not asked for
        movers.append((0, _alike(rng, figures[0]), _beside(rng, movers[0][2])))
    movers = [
        (label, figure, _leaving(rng, figure, motion) if label == leaver and label else motion)
        for label, figure, motion in movers
    ]
    behind = [(0, _figure(rng), _fixed(rng)) for _ in range(int(rng.integers(1, 5)))]
    before = [(0, _figure(rng), _fixed(rng)) for _ in range(int(not plain and rng.random() < 0.3))]
    rng.shuffle(movers)
    layers = [
        Layer(label, part, motion, fixed)
        for group, fixed in ((behind, True), (movers, False), (before, True))
        for label, figure, motion in group
        for part in figure
    ]
    tint = 1 + rng.uniform(-0.08, 0.08, 3)
    light = (1 + rng.uniform(0, 0.35) * rng.uniform(-1, 1, (3, 4, 1))) * tint
    flicker = np.stack(
        [
            rng.uniform(0, 0.15) * rng.uniform(0.5, 1, (3, 4)),
            2 * np.pi / rng.uniform(30, 90, (3, 4)),
            rng.uniform(0, 2 * np.pi, (3, 4)),
        ],
        axis=-1,
    )
    return Scene(
        background,
        camera,
        tuple(layers),
        light,
        flicker,
        shutter=rng.uniform(0.2, 0.6) if rng.random() < 0.5 else 0.0,
        softness=rng.uniform(0.4, 0.9) if rng.random() < 0.4 else 0.0,
        grain=rng.uniform(0, 6),
    )


def _figure(rng: np.random.Generator, background: Material | None = None) -> Figure:
    """A blob, a polygon or a body with limbs, of a colour unlike the background's."""
    material = draw_material(rng, 1.0)
    while background is not None and _distance(material, background) < TELLS_APART:
        material = draw_material(rng, 1.0)
    kind = rng.choice(["blob", "polygon", "body"], p=[0.35, 0.25, 0.4])
    size = np.exp(rng.uniform(np.log(0.1), np.log(0.27)))
    middle = Motion(np.array([0.0, 0.0, 0.0, np.log(size)]))
    if kind == "body":
        return _body(rng, material, middle, size)
    outline = shapes.blob(rng) if kind == "blob" else shapes.polygon(rng)
    return (Part(outline, _scaled(material, size), middle),)


def _body(rng: np.random.Generator, material: Material, middle: Motion, size: float) -> Figure:
    """An oval body with one to four swinging limbs, some behind it, and perhaps a head."""
    width = rng.uniform(0.4, 0.7)
    waves = shapes.blob(rng).waves * (0.7, 1, 1, 1)
    body = Part(shapes.ellipse(1.0, width, waves), _scaled(material, size), middle)
    limbs = []
    for angle in rng.choice(8, int(rng.integers(1, 5)), replace=False) * np.pi / 4 + 0.2:
        outline = shapes.limb(rng.uniform(0.7, 1.2), rng.uniform(0.14, 0.22))
        hinge = 0.75 * np.array([np.cos(angle), width * np.sin(angle)])
        limbs.append(_attached(rng, outline, material, hinge, angle, size))
    if rng.random() < 0.5:
        outline = shapes.ellipse(rng.uniform(0.35, 0.5), rng.uniform(0.3, 0.4))
        limbs.append(_attached(rng, outline, material, np.array([1.1, 0.0]), 0.0, size))
    hidden = int(rng.integers(len(limbs) + 1))
    return (*limbs[:hidden], body, *limbs[hidden:])


def _attached(
    rng: np.random.Generator,
    outline: Outline,
    material: Material,
    hinge: np.ndarray,
    angle: float,
    size: float,
) -> Part:
    """A limb of the body's material: its joint in the figure's unit, which is a frame height."""
    return Part(
        outline,
        _scaled(material.alike(rng), size),
        shapes.swing(rng, size * hinge, angle, size),
    )


def _alike(rng: np.random.Generator, figure: Figure) -> Figure:
    """Another of the same kind: form and stuff alike, at another moment, a little larger or not."""
    grown = np.array([0.0, 0.0, 0.0, rng.uniform(-0.15, 0.15)])
    return tuple(
        Part(
            part.outline.alike(rng),
            part.material.alike(rng),
            dataclasses.replace(part.joint, start=part.joint.start + grown),
        )
        for part in figure
    )


def _path(rng: np.random.Generator) -> Motion:
    """How an object moves: it starts well inside the frame."""
    x, y = rng.uniform(-0.62, 0.62) * EDGE[0], rng.uniform(-0.55, 0.55) * EDGE[1]
    start = np.array([x, y, rng.uniform(0, 2 * np.pi), 0.0])
    spread = np.exp(rng.uniform(-1.2, 0)) * np.array([0.4, 0.22, 0.9, 0.25])
    motion = shapes.wander(rng, start, spread, (20, 70))
    turning = rng.uniform(-0.08, 0.08) if rng.random() < 0.4 else 0.0
    return dataclasses.replace(motion, drift=np.array([0.0, 0.0, turning, 0.0]))


def _beside(rng: np.random.Generator, other: Motion) -> Motion:
    """A path of its own that starts on the other side of the frame."""
    motion = _path(rng)
    start = motion.start.copy()
    if start[0] * other.start[0] > 0:
        start[0] *= -1
    return dataclasses.replace(motion, start=start)


def _leaving(rng: np.random.Generator, figure: Figure, motion: Motion) -> Motion:
    """The same path, but for a while outside the frame, left or right of it."""
    reach = sum(_reach(part, motion) for part in figure)  # parts hang on one another at the most
    outside = rng.choice([-1, 1]) * (EDGE[0] + reach)
    leaves, takes = rng.uniform(3, 6), rng.uniform(4, 5)
    returns = leaves + takes + rng.uniform(2, 4)
    return dataclasses.replace(motion, away=(leaves, returns, takes, outside))


def _reach(part: Part, motion: Motion) -> float:
    """How far a part gets from its figure's origin at most, in frame heights."""
    growth = np.exp(2 * motion.sway[3, 0])
    x, y, _, size = part.joint.start
    return float(growth * (np.hypot(x, y) + np.exp(size) * part.outline.reach))


def _fixed(rng: np.random.Generator) -> Motion:
    """A place on the background, in the frame or a little outside."""
    x, y = rng.uniform(-1.2, 1.2) * EDGE[0], rng.uniform(-1.2, 1.2) * EDGE[1]
    return Motion(np.array([x, y, rng.uniform(0, 2 * np.pi), 0.0]))


def _scaled(material: Material, size: float) -> Material:
    """The material as it looks on a part of a size, whose own unit is that size."""
    place = material.place.copy()
    place[:, :2] *= DETAIL * size
    return dataclasses.replace(material, place=place)


def _distance(one: Material, other: Material) -> float:
    return float(np.linalg.norm(one.colour - other.colour))
