"""The Cascaded Refinement Module (Figure 4): both stages' predictions constrain each other.

A refiner is a small Linen module

    Refiner(options)(F_a1, F_a2 [b, H, W, c], box, mask [b, h, w, 1]) -> feature [b, H, W, c]

with an entry in `REFINERS`, which makes it a value of `config.model.refine`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from einops import reduce
from flax import linen as nn

from qmra_jax.errors import InputError
from qmra_jax.network.layers import Conv


class CRM(nn.Module):
    """CoordConv, then the two predictions merged in by 1x1 convolutions, box first (Figure 4).

    Attributes:
      features: "stage2", or "both" to add stage 1's F_a before CoordConv, as Figure 4 names it.
      dtype: of the computation.
    """

    features: str = "stage2"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, stage1, stage2, box, mask):
        """Merges coordinates and predictions into the aggregated feature.

        Args:
          stage1: F_a^1, of stage 1, `[b, H, W, c]`.
          stage2: F_a^2, of stage 2, `[b, H, W, c]`.
          box: foreground probability of B_q `[b, h, w, 1]`.
          mask: foreground probability of S_q `[b, h, w, 1]`.

        Returns:
          `[b, H, W, c]`, for the last decoder.

        Raises:
          InputError: if `features` is unknown.
        """
        x = self.aggregated(stage1, stage2)
        x = self.merge("coord_conv", x, coordinates(x))  # CoordConv: i, j
        x = self.merge("box_conv", x, pool16(box))  # P(B_q)
        return self.merge("mask_conv", x, pool16(mask))  # P(S_q)

    def merge(self, name: str, x, extra):
        """One step: concatenation, 1x1 convolution, ReLU; `[b, H, W, c]` keeps its width."""
        merged = jnp.concatenate([x, extra.astype(x.dtype)], axis=-1)
        return nn.relu(Conv(x.shape[-1], 1, dtype=self.dtype, name=name)(merged))

    def aggregated(self, stage1, stage2):
        """The F_a to refine: stage 2's, or the sum of both stages'."""
        if self.features not in ("stage2", "both"):
            raise InputError(f"crm features {self.features!r}: expected stage2 or both")
        return stage1 + stage2 if self.features == "both" else stage2


class CRMWithoutCoordinates(CRM):
    """Table 3's "CRM w/o CL": `CRM` without the CoordConv layer."""

    @nn.compact
    def __call__(self, stage1, stage2, box, mask):
        """As `CRM`."""
        x = self.aggregated(stage1, stage2)
        x = self.merge("box_conv", x, pool16(box))
        return self.merge("mask_conv", x, pool16(mask))


def coordinates(x):
    """CoordConv's channels (Liu et al. 2018) for `x [b, H, W, c]`: float32 `[b, H, W, 2]`.

    i runs linearly from -1 to 1 down the rows, j along the columns.
    """
    _, height, width, _ = x.shape
    grid = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij")
    return jnp.broadcast_to(jnp.stack(grid, axis=-1), (*x.shape[:3], 2))


def pool16(probability):
    """P: the mean over 16x16 pixels, `[b, 16H, 16W, 1]` -> `[b, H, W, 1]`."""
    return reduce(probability, "b (h y) (w x) c -> b h w c", "mean", y=16, x=16)


def none(dtype) -> None:
    """No refiner (Table 3's "w/o CRM"): stage 2's mask S_q is the network's answer."""


REFINERS: dict[str, Callable] = {"crm": CRM, "crm_no_coord": CRMWithoutCoordinates, "none": none}
