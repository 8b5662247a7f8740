"""DINOv2 in plain PyTorch (Oquab et al. 2023), at any size: the twin's frozen features.

Independent of `qmra_jax`; parameter names are Hugging Face's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 14
EPS = 1e-6


class Embeddings(nn.Module):
    """Class token and patches with their positions."""

    def __init__(self, width: int, grid: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        projection = nn.Conv2d(3, width, PATCH, PATCH)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})

    def forward(self, x: Tensor) -> Tensor:
        """`[b, 3, 14 H, 14 W]` -> `[b, 1 + H W, width]`."""
        x = self.patch_embeddings["projection"](x)
        cls, square = self.position_embeddings.split([1, self.position_embeddings.shape[1] - 1], 1)
        side = round(square.shape[1] ** 0.5)
        square = square.mT.unflatten(2, (side, side))
        square = F.interpolate(square, x.shape[2:], mode="bicubic", align_corners=False)
        cls = (self.cls_token + cls).expand(len(x), -1, -1)
        return torch.cat([cls, (x + square).flatten(2).mT], 1)


class Block(nn.Module):
    """Attention and an MLP, each scaled by channel and added."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.heads = heads
        qkv = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        output = nn.ModuleDict({"dense": nn.Linear(width, width)})
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attention = nn.ModuleDict({"attention": nn.ModuleDict(qkv), "output": output})
        self.layer_scale1 = nn.ParameterDict({"lambda1": torch.ones(width)})
        self.norm2 = nn.LayerNorm(width, EPS)
        fc1, fc2 = nn.Linear(width, mlp_ratio * width), nn.Linear(mlp_ratio * width, width)
        self.mlp = nn.ModuleDict({"fc1": fc1, "fc2": fc2})
        self.layer_scale2 = nn.ParameterDict({"lambda1": torch.ones(width)})

    def forward(self, x: Tensor) -> Tensor:
        """`[b, n, width]` -> the same."""
        seen = self.norm1(x)
        q, k, v = (
            self.get_submodule(f"attention.attention.{name}")(seen)
            .unflatten(2, (self.heads, -1))
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        weights = torch.softmax(q @ k.mT / q.shape[3] ** 0.5, 3)
        read_out = (weights @ v).transpose(1, 2).flatten(2)
        read_out = self.get_submodule("attention.output.dense")(read_out)
        x = x + self.layer_scale1["lambda1"] * read_out
        hidden = F.gelu(self.mlp["fc1"](self.norm2(x)))
        return x + self.layer_scale2["lambda1"] * self.mlp["fc2"](hidden)


class DINOv2(nn.Module):
    """Tokens at stride 16; the defaults are ViT-S/14."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, width: int = 384, depth: int = 12, heads: int = 6, mlp_ratio: int = 4, grid: int = 37
    ):
        super().__init__()
        self.width = width
        self.embeddings = Embeddings(width, grid)
        blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.encoder = nn.ModuleDict({"layer": blocks})
        self.layernorm = nn.LayerNorm(width, EPS)
        self.register_buffer("mean", _channels(0.485, 0.456, 0.406), persistent=False)
        self.register_buffer("std", _channels(0.229, 0.224, 0.225), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """`[b, 3, 16 H, 16 W]` in [0, 1] -> `[b, width, H, W]`, each token standardised."""
        size = [side // 16 * PATCH for side in image.shape[2:]]
        x = F.interpolate(image, size, mode="bilinear", antialias=True)
        x = self.embeddings((x - self.mean) / self.std)
        for block in self.get_submodule("encoder.layer").children():
            x = block(x)
        tokens = F.layer_norm(self.layernorm(x)[:, 1:], [self.width], eps=EPS)
        return tokens.mT.unflatten(2, (size[0] // PATCH, size[1] // PATCH))


def _channels(*values: float) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
