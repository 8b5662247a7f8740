"""QMRA in plain PyTorch, to test and time the JAX network against.

Independent of `qmra_jax`; loads the result of `qmra_jax.weights.to_torch` strictly:

    model = QMRA(**SIZES["small"])
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)

Shapes: `b` batch, `t` memory frames, `h w` pixels (multiples of 16), `H W` = h/16, w/16. Images are
float32 RGB `[b, 3, h, w]` in [0, 1], maps float32 `[b, 1, h, w]` in [0, 1]. Fastest in
`torch.channels_last`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_dinov2 import DINOv2
from benchmarks.torch_resnet import Encoder

SIZES: dict[str, dict] = {
    "paper": {"backbone": "resnet50", "key_dim": 128, "value_dim": 512, "decoder_dim": 256},
    "small": {"backbone": "resnet18", "key_dim": 64, "value_dim": 128, "decoder_dim": 64},
}

STRIDE = 16


class KeyValue(NamedTuple):
    """A key `[..., key_dim, H, W]` and a value `[..., value_dim, H, W]`."""

    key: Tensor
    value: Tensor


class Memory(NamedTuple):
    """Keys and values of the memory frames for each stage: `[b, t, c, H, W]` each."""

    stage1: KeyValue
    stage2: KeyValue


class KeyValueProjection(nn.Module):
    """1x1 convolutions to key and value."""

    def __init__(self, inputs: int, key_dim: int, value_dim: int):
        super().__init__()
        self.key = nn.Conv2d(inputs, key_dim, 1)
        self.value = nn.Conv2d(inputs, value_dim, 1)

    def forward(self, x: Tensor) -> KeyValue:
        """`[b, inputs, H, W]` -> key and value."""
        return KeyValue(self.key(x), self.value(x))


class QueryMemoryAggregation(nn.Module):
    """Memory Read (Eq. 6), then Bidirectional Channel Aggregation (Eq. 7-9)."""

    def __init__(self, inputs: int, key_dim: int, value_dim: int, reduction: int):
        super().__init__()
        self.memory_kv = KeyValueProjection(inputs, key_dim, value_dim)
        self.query_kv = KeyValueProjection(inputs, key_dim, value_dim)
        self.fc1 = nn.Linear(2 * value_dim, 2 * value_dim // reduction)
        self.fc2 = nn.Linear(2 * value_dim // reduction, 2 * value_dim)

    def forward(self, r4: Tensor, memory: KeyValue) -> Tensor:
        """Query `[b, inputs, H, W]`, memory `[b, t, c, H, W]` -> F_a `[b, 2 value_dim, H, W]`."""
        key, value = self.query_kv(r4)
        both = torch.cat([value, _read(key, memory)], 1)
        weights = self.fc2(F.relu(self.fc1(both.mean((2, 3))))).sigmoid()
        return both * weights[:, :, None, None]


def _read(key: Tensor, memory: KeyValue) -> Tensor:
    query = key.flatten(2).mT * key.shape[1] ** -0.5  # [b, HW, k]
    keys = memory.key.transpose(1, 2).flatten(2)  # [b, k, tHW]
    values = memory.value.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [b, tHW, v]
    attention = torch.softmax(query @ keys, -1)  # [b, HW, tHW]
    return (attention @ values).mT.unflatten(2, key.shape[2:])


class ResBlock(nn.Module):
    """x + conv2(relu(conv1(relu x)))."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[b, width, h, w]` -> the same."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))


class Refine(nn.Module):
    """Doubles the resolution and adds a skip feature."""

    def __init__(self, skip: int, width: int):
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, width, 3, padding=1)
        self.skip_block = ResBlock(width)
        self.merge_block = ResBlock(width)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """`[b, skip, 2h, 2w]` and `[b, width, h, w]` -> `[b, width, 2h, 2w]`."""
        return self.merge_block(self.skip_block(self.skip_conv(skip)) + _enlarge(x, 2))


class Decoder(nn.Module):
    """A feature at stride 16 and two skip features -> logits at full size."""

    def __init__(self, inputs: int, r3: int, r2: int, width: int):
        super().__init__()
        self.conv_in = nn.Conv2d(inputs, width, 3, padding=1)
        self.block = ResBlock(width)
        self.refine3 = Refine(r3, width)
        self.refine2 = Refine(r2, width)
        self.pred = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, x: Tensor, r3: Tensor, r2: Tensor) -> Tensor:
        """-> logits `[b, 2, h, w]`: background, foreground."""
        x = self.block(self.conv_in(x))
        x = self.refine2(r2, self.refine3(r3, x))
        return _enlarge(self.pred(F.relu(x)), 4)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class CascadedRefinement(nn.Module):
    """CRM: F_a of stage 2 joined with the coordinates, B_q and S_q in turn."""

    def __init__(self, width: int):
        super().__init__()
        self.coord_conv = nn.Conv2d(width + 2, width, 1)
        self.box_conv = nn.Conv2d(width + 1, width, 1)
        self.mask_conv = nn.Conv2d(width + 1, width, 1)

    def forward(self, x: Tensor, box: Tensor, mask: Tensor) -> Tensor:
        """`[b, width, H, W]`, logits B_q and S_q `[b, 2, h, w]` -> `[b, width, H, W]`."""
        b, _, height, width = x.shape
        i = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
        j = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype)
        i, j = i[:, None].expand(b, 1, height, width), j.expand(b, 1, height, width)
        x = F.relu(self.coord_conv(torch.cat([x, i, j], 1)))
        x = F.relu(self.box_conv(torch.cat([x, F.avg_pool2d(foreground(box), STRIDE)], 1)))
        return F.relu(self.mask_conv(torch.cat([x, F.avg_pool2d(foreground(mask), STRIDE)], 1)))


def foreground(logits: Tensor) -> Tensor:
    """`[b, 2, h, w]` -> the foreground's probability `[b, 1, h, w]`."""
    return torch.softmax(logits, 1)[:, 1:]


def filled_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """int `[..., 4]` (x, y, width, height) -> bool `[..., height, width]`, true inside."""
    x, y, w, h = (boxes[..., i, None] for i in range(4))
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    in_x, in_y = (columns >= x) & (columns < x + w), (rows >= y) & (rows < y + h)
    return in_y[..., :, None] & in_x[..., None, :]


class QMRA(nn.Module):
    """The network; `SIZES` has the arguments of the paper's and the small one."""

    def __init__(
        self,
        backbone: str = "resnet50",
        key_dim: int = 128,
        value_dim: int = 512,
        decoder_dim: int = 256,
        bca_reduction: int = 16,
        features: dict[str, int] | None = None,
    ):
        """`features` are the arguments of `DINOv2`, for a network with frozen features."""
        super().__init__()
        self.query_encoder = Encoder(backbone, 3)
        self.memory_encoder = Encoder(backbone, 4)
        r2, r3, r4 = self.query_encoder.widths
        self.features = None if features is None else DINOv2(**features)
        r4 += 0 if self.features is None else self.features.width
        self.qma1 = QueryMemoryAggregation(r4, key_dim, value_dim, bca_reduction)
        self.qma2 = QueryMemoryAggregation(r4, key_dim, value_dim, bca_reduction)
        self.box_decoder = Decoder(2 * value_dim, r3, r2, decoder_dim)
        self.mask_decoder = Decoder(2 * value_dim, r3, r2, decoder_dim)
        self.crm = CascadedRefinement(2 * value_dim)
        self.refine_decoder = Decoder(2 * value_dim, r3, r2, decoder_dim)

    def forward(
        self, query: Tensor, memory_images: Tensor, memory_maps: Tensor
    ) -> dict[str, Tensor]:
        """The three predictions of a query frame.

        Args:
          query: `[b, 3, h, w]`.
          memory_images: `[b, t, 3, h, w]`.
          memory_maps: `[b, t, 1, h, w]`.

        Returns:
          Logits `[b, 2, h, w]`: box (B_q), mask (S_q) and refined (S_q^r).
        """
        outputs, _ = self.predict(query, self.memorize(memory_images, memory_maps))
        return outputs

    def memorize(self, images: Tensor, maps: Tensor) -> Memory:
        """`[b, t, 3, h, w]`, `[b, t, 1, h, w]` -> the memory of these frames."""
        r4, _, _ = self.encode(self.memory_encoder, images.flatten(0, 1), maps.flatten(0, 1))
        return self._project(r4, images.shape[:2])

    def predict(self, query: Tensor, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        """Like `forward` with a stored memory; also returns the query's own memory (t = 1)."""
        r4, r3, r2 = self.encode(self.query_encoder, query)
        box = self.box_decoder(self.qma1(r4, memory.stage1), r3, r2)
        s4, s3, s2 = self.encode(self.memory_encoder, query, foreground(box))
        aggregated = self.qma2(s4, memory.stage2)
        mask = self.mask_decoder(aggregated, s3, s2)
        refined = self.refine_decoder(self.crm(aggregated, box, mask), s3, s2)
        outputs = {"box": box, "mask": mask, "refined": refined}
        return outputs, self._project(s4, (len(s4), 1))

    def encode(
        self, encoder: Encoder, image: Tensor, box_map: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The encoder's r4, with any frozen features appended, r3 and r2."""
        r4, r3, r2 = encoder(image, box_map)
        return (r4 if self.features is None else torch.cat([r4, self.features(image)], 1)), r3, r2

    def _project(self, r4: Tensor, batch: tuple[int, ...]) -> Memory:
        stages = (self.qma1.memory_kv(r4), self.qma2.memory_kv(r4))
        return Memory(*(KeyValue(*(x.unflatten(0, batch) for x in kv)) for kv in stages))


def qmra_loss(outputs: dict[str, Tensor], mask: Tensor, box_map: Tensor) -> Tensor:
    """Eq. 10: cross-entropy + 0.1 dice, summed over the three outputs.

    Args:
      outputs: of `QMRA`.
      mask: `[b, h, w]` in {0, 1}.
      box_map: `[b, h, w]` in {0, 1}, the mask's filled tight box.
    """
    targets = {"box": box_map, "mask": mask, "refined": mask}
    losses = []
    for name, target in targets.items():
        logits = outputs[name]
        losses.append(F.cross_entropy(logits, target.long()))
        p, g = foreground(logits).flatten(1), target.flatten(1).to(logits.dtype)
        dice = 1 - (2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1)
        losses.append(0.1 * dice.mean())
    return torch.stack(losses).sum()
