"""What `qmra_jax.explain.frame` finds out about a frame.

Aggregators are not asked for their weights: the weight of a channel (Figure 5) is the number that
it must be multiplied by to become F_a's, if there is one, and likewise the weight of a place. So
one that is added is explained like the others.
"""

from typing import NamedTuple

import numpy as np

_ROUNDING = 0.01  # of a channel's length: what bfloat16 may make of a product with one number


class Stage(NamedTuple):
    """One stage's Query-Memory Aggregation. H, W are places of 16x16 pixels, with padding.

    Attributes:
      attention: float32 `[t, H, W]`: what each memory place counts in the query place's read-out.
        All sum to 1.
      query_value: V_q, float32 `[H, W, c]`.
      read_out: V_a, float32 `[H, W, c]`.
      feature: F_a, float32 `[H, W, c_a]`.
    """

    attention: np.ndarray
    query_value: np.ndarray
    read_out: np.ndarray
    feature: np.ndarray

    @property
    def before(self) -> np.ndarray:
        """V_q and V_a side by side, query half first: float32 `[H, W, 2 c]`."""
        return np.concatenate([self.query_value, self.read_out], axis=-1)

    @property
    def is_weighed(self) -> bool:
        """Whether each channel of F_a belongs to one of `before`, as in all of `AGGREGATORS`."""
        return self.feature.shape == self.before.shape

    @property
    def change(self) -> np.ndarray | None:
        """How far each channel of `before` is from F_a's, root mean square: float32 `[2 c]`."""
        if not self.is_weighed:
            return None
        return np.sqrt(np.mean((self.feature - self.before) ** 2, axis=(0, 1)))

    @property
    def channel_weights(self) -> np.ndarray | None:
        """w_q and w_m of Eq. 8, float32 `[2 c]`; None where channels have no weights."""
        if not self.is_weighed:
            return None
        return _weights(self.before, self.feature, axes=(0, 1))

    @property
    def place_weights(self) -> np.ndarray | None:
        """What places of V_q and of V_a are weighed by: float32 `[H, W, 2]`, or None."""
        if not self.is_weighed:
            return None
        halves = (np.split(x, 2, axis=-1) for x in (self.before, self.feature))
        query, memory = (_weights(*pair, axes=(2,)) for pair in zip(*halves, strict=True))
        return None if query is None or memory is None else np.stack([query, memory], axis=-1)

    def strongest(self, n: int) -> np.ndarray:
        """The channels that change most: n of V_q, then n of V_a, each most first.

        Args:
          n: of each half, if it has as many.

        Returns:
          int `[2, n]`, numbered as in F_a. Among channels that do not change, as without an
          aggregator, those of the largest values come first.
        """
        size = np.sqrt(np.mean(self.before**2, axis=(0, 1)))
        change = self.change if self.change is not None else np.zeros_like(size)
        order = np.lexsort((size, np.where(change > _ROUNDING * size, change, 0)))[::-1]
        half = len(size) // 2
        return np.stack([order[order < half][:n], order[order >= half][:n]])


class Explanation(NamedTuple):
    """A frame as the network sees it. h', w' are the network's pixels, without padding.

    Attributes:
      number: of the frame.
      image: uint8 `[h', w', 3]`, the frame.
      crop: the slices that cut h', w' out of 16 H, 16 W.
      pixel: (x, y) in the frame, and
      place: (row, column) of H, W: whose attention is shown.
      memory_numbers: of the t memory frames, ascending.
      memory_images: uint8 `[t, h', w', 3]`.
      memory_boxes: int32 `[t, 4]`: x, y, width, height in the frame: the first as given, others
        of stage 1's map.
      stages: of each stage.
      outputs: name -> foreground probability float32 `[h', w']`, as in `QMRA.__call__`.
      box: int32 `[4]` in the frame: the tight box of stage 1's map, zeros where it is empty.
      labels: uint8 `[h, w]`: the frame's final label, 0 or the object's id.
    """

    number: int
    image: np.ndarray
    crop: tuple[slice, slice]
    pixel: tuple[int, int]
    place: tuple[int, int]
    memory_numbers: tuple[int, ...]
    memory_images: np.ndarray
    memory_boxes: np.ndarray
    stages: tuple[Stage, ...]
    outputs: dict[str, np.ndarray]
    box: np.ndarray
    labels: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, to be kept: `np.savez(path, **explanation.arrays())`.

        A stage's are `stage1_attention`, ..., and `stage1_channel_weights` and
        `stage1_place_weights` where they exist; an output's is `output_box`.
        """
        named = {k: v for k, v in self._asdict().items() if k not in ("crop", "stages", "outputs")}
        named["crop"] = [[s.start, s.stop] for s in self.crop]
        named |= {f"output_{name}": x for name, x in self.outputs.items()}
        for k, stage in enumerate(self.stages, start=1):
            rest = {n: getattr(stage, n) for n in ("channel_weights", "place_weights")}
            for name, x in (stage._asdict() | rest).items():
                named |= {} if x is None else {f"stage{k}_{name}": x}
        return {name: np.asarray(x) for name, x in named.items()}


def _weights(before: np.ndarray, after: np.ndarray, axes: tuple[int, ...]) -> np.ndarray | None:
    """w in `after = w * before`, one for all along the axes; None where there is none such."""
    squares = np.sum(before**2, axis=axes, keepdims=True)
    w = np.sum(before * after, axis=axes, keepdims=True) / np.maximum(squares, 1e-20)
    rest = np.sum((after - w * before) ** 2, axis=axes, keepdims=True)
    fits = (rest <= _ROUNDING**2 * squares).all()
    return np.squeeze(w, axes).astype(np.float32) if fits else None
