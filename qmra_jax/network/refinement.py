"""The Cascaded Refinement Module (Figure 4): both stages' predictions constrain each other.

A refiner is a small Linen module

    Refiner(options)(F_a1, F_a2 [b, H, W, c], box, mask [b, h, w, 1]) -> feature [b, H, W, c]

with an entry in `REFINERS`, which makes it a value of `config.model.refine`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from einops import reduce
from flax import linen as nn

from qmra_jax.errors import InputError
from qmra_jax.network.layers import Conv


def coordinates(height: int, width: int):
    """CoordConv's two channels (Liu et al. 2018): float32 `[1, H, W, 2]`.

    i runs linearly from -1 to 1 down the rows, j along the columns.
    """
    i = jnp.linspace(-1.0, 1.0, height)[:, None]
    j = jnp.linspace(-1.0, 1.0, width)[None, :]
    return jnp.stack(jnp.broadcast_arrays(i, j), axis=-1)[None]


class CRM(nn.Module):
    """CoordConv, then the two predictions merged in by 1x1 convolutions, box first.

    Attributes:
      features: "stage2", or "both" to add stage 1's F_a before CoordConv, which Figure 4 names.
      dtype: of the computation.
    """

    has_coordinates: ClassVar[bool] = True  # whether there is a CoordConv

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
        """
        if self.features not in ("stage2", "both"):
            raise InputError(f"crm features {self.features!r}: expected stage2 or both")
        x = stage1 + stage2 if self.features == "both" else stage2
        batch, height, width, c = x.shape
        extras = {"box_conv": pool16(box), "mask_conv": pool16(mask)}
        if self.has_coordinates:
            ij = jnp.broadcast_to(coordinates(height, width), (batch, height, width, 2))
            extras = {"coord_conv": ij} | extras
        for name, extra in extras.items():
            merged = jnp.concatenate([x, extra.astype(x.dtype)], axis=-1)
            x = nn.relu(Conv(c, 1, dtype=self.dtype, name=name)(merged))
        return x


class CRMWithoutCoordinates(CRM):
    """Table 3's "CRM w/o CL": the two predictions alone are merged in."""

    has_coordinates: ClassVar[bool] = False


def pool16(probability):
    """P: the mean over 16x16 pixels, `[b, 16H, 16W, 1]` -> `[b, H, W, 1]`."""
    return reduce(probability, "b (h y) (w x) c -> b h w c", "mean", y=16, x=16)


def none(dtype) -> None:
    """No refiner (Table 3's "w/o CRM"): stage 2's mask S_q is the network's answer."""
    del dtype


REFINERS: dict[str, Callable] = {"crm": CRM, "crm_no_coord": CRMWithoutCoordinates, "none": none}
