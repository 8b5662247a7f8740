"""STM in plain PyTorch (Oh et al., ICCV 2019), to test converted weights against.

Written from the paper with the names of the official checkpoint (github.com/seoungwugoh/STM);
independent of `qmra_jax`.

Shapes: `b` batch, `t` memory frames, `h w` pixels (multiples of 16), `H W` = h/16, w/16. Images are
float32 RGB `[b, 3, h, w]` in [0, 1], masks float32 `[b, 1, h, w]` in [0, 1]. One object at a time.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_qmra import ResBlock
from benchmarks.torch_resnet import BACKBONES, FrozenBatchNorm


class KeysValues(NamedTuple):
    """Of t memory frames: keys `[b, t, key_dim, H, W]`, values `[b, t, value_dim, H, W]`."""

    keys: Tensor
    values: Tensor


class Encoder(nn.Module):
    """ResNet up to res4; for memory frames it also takes masks."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, masks: bool):
        super().__init__()
        block, depths = BACKBONES[backbone]
        if masks:
            self.conv1_m = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
            self.conv1_o = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        inputs, self.widths = 64, []
        for i, depth in enumerate(depths):
            width, blocks = 64 * 2**i, []
            for k in range(depth):
                blocks.append(block(inputs, width, 2 if i and not k else 1))
                inputs = width * block.expansion
            self.add_module(f"res{i + 2}", nn.Sequential(*blocks))
            self.widths.append(inputs)  # of r2, r3, r4
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(
        self, image: Tensor, mask: Tensor | None = None, others: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """An image, for memory frames with the object's and the others' masks -> r4, r3, r2."""
        x = self.conv1((image - self.mean) / self.std)
        if mask is not None:
            x = x + self.conv1_m(mask)
        if others is not None:
            x = x + self.conv1_o(others)
        x = F.max_pool2d(F.relu(self.bn1(x)), 3, 2, 1)
        r2 = self.get_submodule("res2")(x)
        r3 = self.get_submodule("res3")(r2)
        return self.get_submodule("res4")(r3), r3, r2


class KeyValue(nn.Module):
    """3x3 convolutions to key and value."""

    def __init__(self, inputs: int, key_dim: int, value_dim: int):
        super().__init__()
        self.Key = nn.Conv2d(inputs, key_dim, 3, padding=1)
        self.Value = nn.Conv2d(inputs, value_dim, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[b, inputs, H, W]` -> `[b, key_dim, H, W]`, `[b, value_dim, H, W]`."""
        return self.Key(x), self.Value(x)


class Refine(nn.Module):
    """Doubles the resolution and adds a skip feature."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.convFS = nn.Conv2d(inputs, width, 3, padding=1)
        self.ResFS = ResBlock(width)
        self.ResMM = ResBlock(width)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """`[b, inputs, 2h, 2w]`, `[b, width, h, w]` -> `[b, width, 2h, 2w]`."""
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.ResMM(self.ResFS(self.convFS(fine)) + coarse)


class Decoder(nn.Module):
    """A feature at stride 16 and two skip features -> logits at full size."""

    def __init__(self, inputs: int, r3: int, r2: int, width: int):
        super().__init__()
        self.convFM = nn.Conv2d(inputs, width, 3, padding=1)
        self.ResMM = ResBlock(width)
        self.RF3 = Refine(r3, width)
        self.RF2 = Refine(r2, width)
        self.pred2 = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, x: Tensor, r3: Tensor, r2: Tensor) -> Tensor:
        """-> `[b, 2, h, w]`."""
        x = self.RF2(r2, self.RF3(r3, self.ResMM(self.convFM(x))))
        logits = self.pred2(F.relu(x))
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


class STM(nn.Module):
    """The network; the defaults are the paper's."""

    def __init__(
        self,
        backbone: str = "resnet50",
        key_dim: int = 128,
        value_dim: int = 512,
        decoder_dim: int = 256,
    ):
        super().__init__()
        self.Encoder_M = Encoder(backbone, masks=True)
        self.Encoder_Q = Encoder(backbone, masks=False)
        r2, r3, r4 = self.Encoder_Q.widths
        self.KV_M_r4 = KeyValue(r4, key_dim, value_dim)
        self.KV_Q_r4 = KeyValue(r4, key_dim, value_dim)
        self.Decoder = Decoder(2 * value_dim, r3, r2, decoder_dim)

    def memorize(self, image: Tensor, mask: Tensor) -> KeysValues:
        """Keys and values of a memory frame with a single object; t = 1."""
        r4, _, _ = self.Encoder_M(image, mask, torch.zeros_like(mask))
        return KeysValues(*(x[:, None] for x in self.KV_M_r4(r4)))

    def segment(self, image: Tensor, memory: KeysValues) -> Tensor:
        """The query's logits `[b, 2, h, w]` (paper's Eq. 1-2 and its decoder)."""
        r4, r3, r2 = self.Encoder_Q(image)
        key, value = self.KV_Q_r4(r4)
        similarity = torch.einsum("btcij,bcyx->btijyx", memory.keys, key) / key.shape[1] ** 0.5
        places = similarity.flatten(1, 3)  # [b, tHW, H, W]
        weights = torch.softmax(places, 1).view_as(similarity)
        read_out = torch.einsum("btijyx,btcij->bcyx", weights, memory.values)
        return self.Decoder(torch.cat([read_out, value], 1), r3, r2)

    def propagate(self, frames: Tensor, mask: Tensor, every: int = 5) -> Tensor:
        """Segments a video of one object from its first mask, as the official evaluation does.

        Args:
          frames: `[k, 3, h, w]`.
          mask: `[1, 1, h, w]` in {0, 1}.
          every: interval of memory frames.

        Returns:
          The foreground's probability in each frame `[k, h, w]`; the first is the mask.
        """
        kept: list[KeysValues] = []
        probabilities = [mask]
        for k in range(1, len(frames)):
            previous = self.memorize(frames[k - 1 : k], probabilities[-1])
            memory = KeysValues(*(torch.cat(x, 1) for x in zip(*kept, previous, strict=True)))
            if (k - 1) % every == 0:
                kept.append(previous)
            probabilities.append(soft_aggregation(self.segment(frames[k : k + 1], memory)))
        return torch.cat(probabilities)[:, 0]


def soft_aggregation(logits: Tensor) -> Tensor:
    """Soft aggregation of one object (paper's Eq. 3).

    `[1, 2, h, w]` -> the foreground's probability `[1, 1, h, w]`.
    """
    seen = torch.softmax(logits, 1)[:, 1:]
    both = torch.cat([1 - seen, seen], 1).clamp(1e-7, 1 - 1e-7)
    return torch.softmax(torch.log(both / (1 - both)), 1)[:, 1:]
