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
    """CoordConv, then the two predictions merged in by 1x1 convolutions, box first.

    Attributes:
      features: "stage2", or "both" to add stage 1's F_a before CoordConv, which Figure 4 names.
      dtype: of the computation.
    """

    features: str = "stage2"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, stage1, stage2, box, mask):
        """Refines.

        Args:
          stage1: F_a of stage 1 `[b, H, W, c]`.
          stage2: F_a of stage 2 `[b, H, W, c]`.
          box: foreground probability of B_q `[b, h, w, 1]`.
          mask: foreground probability of S_q `[b, h, w, 1]`.

        Returns:
          `[b, H, W, c]`, for the last decoder.

        Raises:
          InputError: if `features` is neither.
        """
        x = aggregated(self.features, stage1, stage2)
        x = merge(x, coordinates(x), self.dtype, "coord_conv")  # CoordConv: i, j
        x = merge(x, pool16(box), self.dtype, "box_conv")  # P(B_q)
        return merge(x, pool16(mask), self.dtype, "mask_conv")  # P(S_q)


class CRMWithoutCoordinates(CRM):
    """Table 3's "CRM w/o CL": the two predictions alone are merged in."""

    @nn.compact
    def __call__(self, stage1, stage2, box, mask):
        """Refines, as `CRM`."""
        x = aggregated(self.features, stage1, stage2)
        x = merge(x, pool16(box), self.dtype, "box_conv")
        return merge(x, pool16(mask), self.dtype, "mask_conv")


def merge(x, extra, dtype, name: str):
    """A CRM's step: concatenation, 1x1 convolution `name`, ReLU; `[b, H, W, c]` stays so wide."""
    merged = jnp.concatenate([x, extra.astype(x.dtype)], axis=-1)
    return nn.relu(Conv(x.shape[-1], 1, dtype=dtype, name=name)(merged))


def coordinates(x):
    """CoordConv's two channels (Liu et al. 2018): float32 `[b, H, W, 2]` beside x `[b, H, W, c]`.

    i runs linearly from -1 to 1 down the rows, j along the columns.
    """
    i = jnp.linspace(-1.0, 1.0, x.shape[1])[:, None]
    j = jnp.linspace(-1.0, 1.0, x.shape[2])[None, :]
    return jnp.broadcast_to(jnp.stack(jnp.broadcast_arrays(i, j), axis=-1), (*x.shape[:3], 2))


def pool16(probability):
    """P: the mean over 16x16 pixels, `[b, 16H, 16W, 1]` -> `[b, H, W, 1]`."""
    return reduce(probability, "b (h y) (w x) c -> b h w c", "mean", y=16, x=16)


def aggregated(features: str, stage1, stage2):
    """The F_a that is refined: stage 2's, or the sum of both stages'."""
    if features not in ("stage2", "both"):
        raise InputError(f"crm features {features!r}: expected stage2 or both")
    return stage1 + stage2 if features == "both" else stage2


def none(dtype) -> None:
    """No refiner (Table 3's "w/o CRM"): stage 2's mask S_q is the network's answer."""
    del dtype


REFINERS: dict[str, Callable] = {"crm": CRM, "crm_no_coord": CRMWithoutCoordinates, "none": none}
