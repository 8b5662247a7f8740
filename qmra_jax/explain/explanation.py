"""The result of `qmra_jax.explain.frame`.

Weights are found from an aggregator's inputs and output: the weight of a channel (Figure 5) is the
factor between V_q or V_a and F_a, if there is one, and likewise the weight of a place. This works
for any aggregator.
"""

from typing import NamedTuple

import numpy as np

_ROUNDING = 0.01  # relative error of a product in bfloat16


class Stage(NamedTuple):
    """One stage's Query-Memory Aggregation. H, W count places of 16x16 pixels, with padding.

    Attributes:
      attention: of the query place, float32 `[t, H, W]`: the weights of the memory places in its
        read-out, which sum to 1.
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
        """V_q and V_a, concatenated: float32 `[H, W, 2 c]`."""
        return np.concatenate([self.query_value, self.read_out], axis=-1)

    @property
    def is_weighed(self) -> bool:
        """Whether F_a has one channel for each of `before`, as with all `AGGREGATORS`."""
        return self.feature.shape == self.before.shape

    @property
    def change(self) -> np.ndarray | None:
        """Root mean square difference of each channel before and after: float32 `[2 c]`."""
        if not self.is_weighed:
            return None
        return np.sqrt(np.mean((self.feature - self.before) ** 2, axis=(0, 1)))

    @property
    def channel_weights(self) -> np.ndarray | None:
        """w_q and w_m of Eq. 7-8, float32 `[2 c]`; None if channels have no weights."""
        if not self.is_weighed:
            return None
        return _weights(self.before, self.feature, axes=(0, 1))

    @property
    def place_weights(self) -> np.ndarray | None:
        """Weights of the places of V_q and of V_a: float32 `[H, W, 2]`, or None."""
        if not self.is_weighed:
            return None
        halves = (np.split(x, 2, axis=-1) for x in (self.before, self.feature))
        query, memory = (_weights(x, y, axes=(2,)) for x, y in zip(*halves, strict=True))
        return None if query is None or memory is None else np.stack([query, memory], axis=-1)

    def strongest(self, n: int) -> np.ndarray:
        """The n channels of V_q and of V_a that change most, in descending order.

        Returns:
          int `[2, n]`, numbered as in F_a. Channels that do not change, as without an aggregator,
          are ordered by magnitude.
        """
        size = np.sqrt(np.mean(self.before**2, axis=(0, 1)))
        change = np.zeros_like(size) if self.change is None else self.change
        order = np.lexsort((size, np.where(change > _ROUNDING * size, change, 0)))[::-1]
        half = len(size) // 2
        return np.stack([order[order < half][:n], order[order >= half][:n]])


class Explanation(NamedTuple):
    """A frame as the network sees it; h', w' is the network's image size without padding.

    Attributes:
      number: of the frame.
      image: the frame, uint8 `[h', w', 3]`.
      crop: slices that remove the padding: `[16 H, 16 W]` -> `[h', w']`.
      pixel: (x, y) in the frame, of which the attention is shown.
      place: its (row, column) in `[H, W]`.
      memory_numbers: frame numbers of the t memory frames, ascending.
      memory_images: uint8 `[t, h', w', 3]`.
      memory_boxes: int32 `[t, 4]`: x, y, width, height in the frame; the first is given, the others
        are those of stage 1's map.
      stages: one or two.
      outputs: name -> foreground probability float32 `[h', w']`, as in `QMRA.__call__`.
      box: int32 `[4]` in the frame: the tight box of stage 1's map, zeros if it is empty.
      labels: uint8 `[h, w]`: the predicted label, 0 or the object's id.
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
        """All fields as arrays by name, for `np.savez(path, **explanation.arrays())`.

        Fields of stages and outputs are `stage1_attention`, ..., `stage1_channel_weights` and
        `stage1_place_weights` if they exist, and `output_box`, ...
        """
        named = {k: v for k, v in self._asdict().items() if k not in ("crop", "stages", "outputs")}
        named["crop"] = [[s.start, s.stop] for s in self.crop]
        named |= {f"output_{name}": x for name, x in self.outputs.items()}
        for k, stage in enumerate(self.stages, start=1):
            derived = {n: getattr(stage, n) for n in ("channel_weights", "place_weights")}
            for name, x in (stage._asdict() | derived).items():
                named |= {} if x is None else {f"stage{k}_{name}": x}
        return {name: np.asarray(x) for name, x in named.items()}


def _weights(before: np.ndarray, after: np.ndarray, axes: tuple[int, ...]) -> np.ndarray | None:
    """w in `after = w * before`, constant along the axes; None if there is no such w."""
    squares = np.sum(before**2, axis=axes, keepdims=True)
    w = np.sum(before * after, axis=axes, keepdims=True) / np.maximum(squares, 1e-20)
    residuals = np.sum((after - w * before) ** 2, axis=axes, keepdims=True)
    fits = (residuals <= _ROUNDING**2 * squares).all()
    return np.squeeze(w, axes).astype(np.float32) if fits else None
