"""The encoders f_q and f_m of the PyTorch twin: torchvision's ResNet-18 and -50 up to layer3."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm with fixed statistics; scale and bias are trained."""

    def forward(self, x: Tensor) -> Tensor:
        """`[b, c, h, w]` -> the same."""
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[b, inputs, h, w]` -> `[b, width, h/stride, w/stride]`."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width (ResNet-50)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = FrozenBatchNorm(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[b, inputs, h, w]` -> `[b, 4 width, h/stride, w/stride]`."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x), inplace=True)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(conv, FrozenBatchNorm(outputs))


BACKBONES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6)),
}


class Encoder(nn.Module):
    """f_q (3 channels) or f_m (4: RGB and a map): torchvision's ResNet up to layer3."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, channels: int):
        super().__init__()
        block, depths = BACKBONES[backbone]
        self.widths = [64 * block.expansion * 2**i for i in range(3)]  # r2, r3, r4
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        self.layer1 = _layer(block, 64, 64, depths[0], stride=1)
        self.layer2 = _layer(block, self.widths[0], 128, depths[1], stride=2)
        self.layer3 = _layer(block, self.widths[1], 256, depths[2], stride=2)
        self.register_buffer("mean", _channels(0.485, 0.456, 0.406), persistent=False)
        self.register_buffer("std", _channels(0.229, 0.224, 0.225), persistent=False)

    def forward(self, image: Tensor, box_map: Tensor | None = None) -> tuple[Tensor, ...]:
        """`[b, 3, h, w]` and, for f_m, `[b, 1, h, w]` -> r4, r3, r2 at strides 16, 8, 4."""
        x = (image - self.mean) / self.std
        if box_map is not None:
            x = torch.cat([x, box_map], 1)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        r2 = self.layer1(F.max_pool2d(x, 3, 2, 1))
        r3 = self.layer2(r2)
        return self.layer3(r3), r3, r2


def _layer(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    rest = [block(width * block.expansion, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(block(inputs, width, stride), *rest)


def _channels(*values: float) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
