"""The decoder of RGMP (Oh et al. 2018), as used by STM at stride 16."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from qmra_jax.network.layers import Conv, upsample


class ResBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))): 3x3 with bias, no normalisation."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """`[b, h, w, c]` -> the same shape."""
        y = Conv(self.features, dtype=self.dtype, name="conv1")(nn.relu(x))
        return x + Conv(self.features, dtype=self.dtype, name="conv2")(nn.relu(y))


class Refine(nn.Module):
    """Merges a coarse feature with a skip feature of twice its size."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, skip):
        """`x [b, H, W, c]`, `skip [b or 1, 2H, 2W, c_r]` -> `[b, 2H, 2W, c]`."""
        skip = Conv(self.features, dtype=self.dtype, name="skip_conv")(skip)
        skip = ResBlock(self.features, self.dtype, name="skip_block")(skip)
        return ResBlock(self.features, self.dtype, name="merge_block")(skip + upsample(x, 2))


class Decoder(nn.Module):
    """Background and foreground logits from an aggregated feature and two skip features.

    Attributes:
      features: channels.
      dtype: of the computation; the logits are float32.
    """

    features: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, r3, r2):
        """Decodes a feature.

        Args:
          x: F_a, or CRM's feature, `[b, H, W, c_a]`.
          r3: `[b or 1, 2H, 2W, c]`; if 1, its branch is computed once for all b.
          r2: `[b or 1, 4H, 4W, c]`.

        Returns:
          float32 logits `[b, 16H, 16W, 2]`: background, foreground.
        """
        x = Conv(self.features, dtype=self.dtype, name="conv_in")(x)
        x = ResBlock(self.features, self.dtype, name="block")(x)
        x = Refine(self.features, self.dtype, name="refine3")(x, r3)
        x = Refine(self.features, self.dtype, name="refine2")(x, r2)
        logits = Conv(2, dtype=self.dtype, name="pred")(nn.relu(x))
        return upsample(logits.astype(jnp.float32), 4)
