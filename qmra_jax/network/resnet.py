"""torchvision's ResNet (He et al. 2016) without its last stage: the paper's "4th stage" is layer3.

Module names are torchvision's, with `layer1.0` written `layer1_0`. BatchNorm uses its stored
statistics, as in STM, unless `stats_axis` is given (see `BatchNorm`); its scale and bias train.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from qmra_jax.network.batch_norm import BatchNorm
from qmra_jax.network.layers import Conv
from qmra_jax.network.ops.convolution import convolve
from qmra_jax.network.variants import lookup

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

resnet_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
ResNetConv = functools.partial(Conv, use_bias=False, kernel_init=resnet_init)


class Features(NamedTuple):
    """An encoder's output, from coarse to fine.

    Attributes:
      r4: `[b, h/16, w/16, c]`, layer3's output.
      r3: `[b, h/8, w/8, c/2]`, layer2's output.
      r2: `[b, h/4, w/4, c/4]`, layer1's output.
    """

    r4: Any
    r3: Any
    r2: Any


class BasicBlock(nn.Module):
    """ResNet-18's block: two 3x3 convolutions; `features` output channels."""

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    stats_axis: str | None = None

    @nn.compact
    def __call__(self, x):
        """`[b, h, w, c]` -> `[b, h / stride, w / stride, c_out]`."""
        conv = functools.partial(ResNetConv, dtype=self.dtype)
        norm = functools.partial(BatchNorm, self.stats_axis, self.dtype)
        shortcut = x
        x = nn.relu(norm(name="bn1")(conv(self.features, 3, self.stride, name="conv1")(x)))
        x = norm(name="bn2")(conv(self.features, name="conv2")(x))
        if x.shape != shortcut.shape:
            shortcut = conv(self.features, 1, self.stride, name="downsample_0")(shortcut)
            shortcut = norm(name="downsample_1")(shortcut)
        return nn.relu(x + shortcut)


class Bottleneck(nn.Module):
    """ResNet-50's block: 1x1, 3x3 with the stride, 1x1; `4 features` output channels."""

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    stats_axis: str | None = None

    @nn.compact
    def __call__(self, x):
        """`[b, h, w, c]` -> `[b, h / stride, w / stride, c_out]`."""
        conv = functools.partial(ResNetConv, dtype=self.dtype)
        norm = functools.partial(BatchNorm, self.stats_axis, self.dtype)
        shortcut = x
        x = nn.relu(norm(name="bn1")(conv(self.features, 1, name="conv1")(x)))
        x = nn.relu(norm(name="bn2")(conv(self.features, 3, self.stride, name="conv2")(x)))
        x = norm(name="bn3")(conv(4 * self.features, 1, name="conv3")(x))
        if x.shape != shortcut.shape:
            shortcut = conv(4 * self.features, 1, self.stride, name="downsample_0")(shortcut)
            shortcut = norm(name="downsample_1")(shortcut)
        return nn.relu(x + shortcut)


class Backbone(NamedTuple):
    """A ResNet: its block and the number of blocks in layers 1 to 3."""

    block: type[nn.Module]
    depths: tuple[int, int, int]


BACKBONES = {
    "resnet18": Backbone(BasicBlock, (2, 2, 2)),
    "resnet50": Backbone(Bottleneck, (3, 4, 6)),
}


class Stem(nn.Module):
    """The first convolution, 7x7 with stride 2, of an image and optionally a map.

    If one image comes with many maps, the image's part is computed once.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image, box_map=None):
        """`[b or 1, h, w, 3]`, `[b, h, w, 1]` -> `[b, h / 2, w / 2, 64]`."""
        channels = 3 if box_map is None else 4
        kernel = self.param("kernel", resnet_init, (7, 7, channels, 64), jnp.float32)
        kernel = kernel.astype(self.dtype)
        image = image.astype(self.dtype)
        if box_map is None:
            return convolve(image, kernel, stride=2)
        box_map = box_map.astype(self.dtype)
        if image.shape[0] == box_map.shape[0]:
            return convolve(jnp.concatenate([image, box_map], axis=-1), kernel, stride=2)
        rgb, extra = jnp.split(kernel, [3], axis=2)
        return convolve(image, rgb, stride=2) + convolve(box_map, extra, stride=2)


class Encoder(nn.Module):
    """f_q, or f_m if it is given a map as a fourth channel (Eq. 1).

    Attributes:
      backbone: a name of `BACKBONES`.
      dtype: of the computation.
      stats_axis: see `BatchNorm`.
      remat: whether the backward pass recomputes all but the input of each residual block.
    """

    backbone: str = "resnet50"
    dtype: Any = jnp.float32
    stats_axis: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, image, box_map=None) -> Features:
        """Encodes images.

        Args:
          image: float `[b or 1, h, w, 3]` RGB in [0, 1].
          box_map: float `[b, h, w, 1]` in [0, 1] for f_m, None for f_q.
        """
        block, depths = lookup("backbone", BACKBONES, self.backbone)
        block = nn.remat(block) if self.remat else block
        x = (image - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD)
        x = Stem(self.dtype, name="conv1")(x, box_map)
        x = nn.relu(BatchNorm(self.stats_axis, self.dtype, name="bn1")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        layers = []
        for layer, depth in enumerate(depths):
            for i in range(depth):
                stride = 2 if layer > 0 and i == 0 else 1
                name = f"layer{layer + 1}_{i}"
                x = block(64 * 2**layer, stride, self.dtype, self.stats_axis, name=name)(x)  # type: ignore[call-arg]
            layers.append(x)
        r2, r3, r4 = layers
        return Features(r4=r4, r3=r3, r2=r2)
