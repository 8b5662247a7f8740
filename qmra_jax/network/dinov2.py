"""The frozen ViT-S/14 of DINOv2 (Oquab et al. 2023), whose tokens join the ResNet's features.

Its arrays are the collection "frozen", which is not optimised, and its output stops gradients.
Images are resized by 14/16, so that tokens of 14x14 patches lie on the grid of the encoders' r4.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from qmra_jax.network.resnet import IMAGENET_MEAN, IMAGENET_STD

STRIDE = 16  # of the tokens, in pixels of the input image
NORM_EPS = 1e-6
CUBIC = -0.75  # PyTorch's bicubic kernel; jax.image.resize's has -0.5

_INIT = nn.initializers.truncated_normal(0.02)


class DINOv2(nn.Module):
    """A vision transformer without registers; the defaults are ViT-S/14: 22,056,192 numbers.

    Attributes:
      width: channels of a token.
      depth: number of blocks.
      heads: attention heads, a divisor of `width`.
      mlp_ratio: hidden channels of the MLPs, as a multiple of `width`.
      patch: side of a patch, in pixels of the resized image.
      grid: side of the grid of stored position embeddings, in patches.
      dtype: of the matrix products; LayerNorms, softmaxes, the residual stream and the stored
        arrays are float32.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: int = 4
    patch: int = 14
    grid: int = 37
    dtype: Any = jnp.float32

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each array in "frozen"; those of the blocks are stacked."""
        c = self.width
        return {
            "cls_token": (c,),
            "positions": (1 + self.grid**2, c),  # cls, then the grid row by row
            "patch_kernel": (self.patch**2 * 3, c),  # rows, columns, RGB
            "patch_bias": (c,),
            "norm_scale": (c,),
            "norm_bias": (c,),
            **{name: (self.depth, *shape) for name, shape in self.block_shapes().items()},
        }

    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each array of one block."""
        c, hidden = self.width, self.mlp_ratio * self.width
        return {
            "norm1_scale": (c,),
            "norm1_bias": (c,),
            "qkv_kernel": (c, 3 * c),  # queries, keys, values; of each, head after head
            "qkv_bias": (3 * c,),
            "out_kernel": (c, c),
            "out_bias": (c,),
            "layer_scale1": (c,),
            "norm2_scale": (c,),
            "norm2_bias": (c,),
            "fc1_kernel": (c, hidden),
            "fc1_bias": (hidden,),
            "fc2_kernel": (hidden, c),
            "fc2_bias": (c,),
            "layer_scale2": (c,),
        }

    def setup(self):
        self.frozen = {
            name: self.variable("frozen", name, self._initial, name, shape)
            for name, shape in self.shapes().items()
        }

    def _initial(self, name: str, shape: tuple[int, ...]) -> jax.Array:
        """Random initial values."""
        if name.endswith("bias"):
            return jnp.zeros(shape, jnp.float32)
        if "scale" in name:
            return jnp.ones(shape, jnp.float32)
        return _INIT(self.make_rng("params"), shape, jnp.float32)

    def __call__(self, images) -> jax.Array:
        """The tokens of images, without gradient.

        Args:
          images: float `[b, h, w, 3]` RGB in [0, 1]; h and w multiples of 16. They are resized by
            14/16 as by PyTorch's `interpolate(mode="bilinear", antialias=True)`.

        Returns:
          `[b, h/16, w/16, width]` of `dtype`, each token of mean 0 and variance 1.
        """
        height, width = (n // STRIDE for n in images.shape[1:3])
        shape = (len(images), height * self.patch, width * self.patch, 3)
        images = jnp.asarray(images, jnp.float32)
        resized = jax.image.resize(images, shape, "linear", antialias=True)
        tokens = _standardize(self.encode(resized)[:, 1:])
        tokens = rearrange(tokens, "b (h w) c -> b h w c", h=height)
        return jax.lax.stop_gradient(tokens.astype(self.dtype))

    def encode(self, images) -> jax.Array:
        """The transformer: RGB in [0, 1] `[b, 14 H, 14 W, 3]` -> float32 `[b, 1 + H W, width]`.

        The cls token comes first, then the patches row by row, after the last LayerNorm.
        """
        frozen = {name: variable.value for name, variable in self.frozen.items()}
        x = (images - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD)
        height, width = (size // self.patch for size in images.shape[1:3])
        x = rearrange(x, "b (h y) (w x) c -> b (h w) (y x c)", h=height, w=width)
        x = self._dense(x, frozen, "patch")
        cls = jnp.broadcast_to(frozen["cls_token"], (x.shape[0], 1, self.width))
        x = jnp.concatenate([cls, x], axis=1)
        x = x + resize_positions(frozen["positions"], height, width)
        blocks = {name: frozen[name] for name in self.block_shapes()}
        x, _ = jax.lax.scan(lambda x, block: (self._block(x, block), None), x, blocks)
        return _layer_norm(x, frozen, "norm")

    def _block(self, x, block) -> jax.Array:
        """Attention and MLP with residual connections, `[b, n, c]`."""
        qkv = self._dense(_layer_norm(x, block, "norm1"), block, "qkv").astype(self.dtype)
        q, k, v = rearrange(qkv, "b n (r h c) -> r b h n c", r=3, h=self.heads)
        logits = jnp.einsum("bhnc,bhmc->bhnm", q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits / np.sqrt(self.width // self.heads), axis=-1)
        read_out = jnp.einsum("bhnm,bhmc->bhnc", weights.astype(self.dtype), v)
        read_out = rearrange(read_out, "b h n c -> b n (h c)")
        x = x + block["layer_scale1"] * self._dense(read_out, block, "out")
        hidden = self._dense(_layer_norm(x, block, "norm2"), block, "fc1").astype(self.dtype)
        hidden = jax.nn.gelu(hidden, approximate=False)
        return x + block["layer_scale2"] * self._dense(hidden, block, "fc2")

    def _dense(self, x, arrays, name: str) -> jax.Array:
        """`[..., c_in]` -> float32 `[..., c_out]`, multiplied in `dtype`."""
        x, kernel = x.astype(self.dtype), arrays[f"{name}_kernel"].astype(self.dtype)
        product = jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
        return product + arrays[f"{name}_bias"]


def resize_positions(positions, height: int, width: int) -> jax.Array:
    """The position embeddings for another grid, resized as by PyTorch's bicubic `interpolate`.

    `[1 + g g, c]` -> `[1 + height width, c]`, the cls token first.
    """
    cls, square = positions[:1], positions[1:]
    side = round(square.shape[0] ** 0.5)
    if (height, width) == (side, side):
        return positions
    square = rearrange(square, "(h w) c -> h w c", h=side)
    rows, columns = bicubic_matrix(side, height), bicubic_matrix(side, width)
    for equation, matrix in (("ih,hwc->iwc", rows), ("jw,iwc->ijc", columns)):
        square = jnp.einsum(equation, matrix, square, precision="highest")
    return jnp.concatenate([cls, rearrange(square, "h w c -> (h w) c")])


def bicubic_matrix(size: int, new_size: int) -> np.ndarray:
    """PyTorch's bicubic interpolation along one axis as a matrix `[new_size, size]`.

    Half-pixel centres (`align_corners=False`), replicated border, no antialiasing.
    """
    centres = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    first = np.floor(centres).astype(int) - 1
    matrix = np.zeros((new_size, size))
    for tap in range(4):
        source = first + tap
        weights = _cubic(np.abs(centres - source))
        np.add.at(matrix, (np.arange(new_size), source.clip(0, size - 1)), weights)
    return matrix.astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel, for distances from 0 to 2."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)


def _layer_norm(x, arrays, name: str) -> jax.Array:
    return _standardize(x) * arrays[f"{name}_scale"] + arrays[f"{name}_bias"]


def _standardize(x) -> jax.Array:
    """Float32 with mean 0 and variance 1 over the channels."""
    x = x.astype(jnp.float32)
    x = x - x.mean(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + NORM_EPS)


def none(dtype) -> None:
    """No frozen features, as in the paper."""


FEATURES: dict[str, Callable] = {"none": none, "dinov2_vits14": DINOv2}
