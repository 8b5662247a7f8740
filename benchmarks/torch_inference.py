"""The twin's propagation as a timed program, optimized for PyTorch.

channels_last, inference_mode, BatchNorm folded into convolutions, objects as one batch with shared
work done once (f_q, stage 1's skip features, the RGB half of f_m's stem), and preallocated memory
that is read without copies.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.clip import Clip
from benchmarks.torch_device import TorchDevice
from benchmarks.torch_qmra import (
    QMRA,
    SIZES,
    STRIDE,
    QueryMemoryAggregation,
    filled_boxes,
    foreground,
)
from benchmarks.torch_resnet import Encoder


class TorchProgram(TorchDevice):
    """The twin's frames, eager or compiled by torch.compile."""

    def __init__(self, clip: Clip, state_file: Path, compiled: bool):
        """Loads the weights that our program wrote to `state_file`, and fills the memory."""
        super().__init__(clip.device, clip.tf32)
        torch.backends.cudnn.benchmark = True
        model = QMRA(**SIZES[clip.config])
        model.load_state_dict(load_file(state_file), strict=True)
        fold_batch_norms(model.eval())
        model = model.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype = getattr(torch, clip.dtype)
        self._model = model.to(self._dtype)
        self._clip = clip
        self._frames = itertools.cycle(clip.frames())
        self._see: Callable = functools.partial(see, self._model)
        with torch.inference_mode():
            self._start(next(self._frames), torch.from_numpy(clip.boxes()))
            for _ in range(clip.memory - 1):
                self._frame(next(self._frames))
        if compiled:
            torch._inductor.config.freezing = True  # packs weights for the kernels

            def whole(image: Tensor, memory: list[Tensor]) -> Any:
                return see(self._model, image, memory)

            self._see = torch.compile(whole)

    def step(self) -> float:
        """Segments a frame, with labels and boxes on the host; returns the share of foreground."""
        with torch.inference_mode():
            labels, probabilities = self._frame(next(self._frames))
        if "labels" not in self.facts:
            self.facts["labels"] = labels
            self.facts["probabilities"] = probabilities.cpu().numpy()
        return float((labels > 0).mean())

    def _start(self, frame: np.ndarray, boxes: Tensor) -> None:
        image = self._to_device(frame)
        query, pads = prepare(image, self._dtype)
        maps = filled_boxes(boxes.to(self._device), *image.shape[:2]).to(self._dtype)[:, None]
        r4, _, _ = encode_objects(self._model.memory_encoder, query, F.pad(maps, pads))
        entry = memorize(self._model, r4)
        n, places = entry[0].shape[:2]
        self._bank = [
            torch.zeros(n, self._clip.memory, places, x.shape[-1], dtype=x.dtype, device=x.device)
            for x in entry
        ]
        self._write(entry, 0)
        self._number = 0

    def _frame(self, frame: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Labels and probabilities. Slot k holds frame k, the last slot the previous frame."""
        self._number += 1
        memory = [x[:, : min(self._number, self._clip.memory)] for x in self._bank]
        labels, boxes, probabilities, entry = self._see(self._to_device(frame), memory)
        self._write(entry, min(self._number, self._clip.memory - 1))
        boxes.cpu()
        return labels.cpu().numpy(), probabilities

    def _write(self, entry: list[Tensor], slot: int) -> None:
        for bank, x in zip(self._bank, entry, strict=True):
            bank[:, slot] = x

    def _to_device(self, frame: np.ndarray) -> Tensor:
        return torch.from_numpy(frame).to(self._device)


def see(
    model: QMRA, image: Tensor, memory: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Segments a frame: `QMRA.predict` for n objects at once, merged.

    Args:
      model: the network, without BatchNorm.
      image: uint8 `[h, w, 3]`.
      memory: keys and values of both stages, `[n, t, HW, c]` each.

    Returns:
      labels uint8 `[h, w]`; boxes int32 `[n, 4]`; probabilities float32 `[n + 1, h, w]`; the
      frame's own keys and values, `[n, HW, c]` each.
    """
    query, (left, right, top, bottom) = prepare(image, model.crm.coord_conv.weight.dtype)
    inside = (..., slice(top, query.shape[2] - bottom), slice(left, query.shape[3] - right))
    r4, r3, r2 = model.query_encoder(query)
    box = model.box_decoder(aggregate(model.qma1, r4, memory[0], memory[1]), r3, r2).float()
    prior = foreground(box)
    s4, s3, s2 = encode_objects(model.memory_encoder, query, prior.to(query.dtype))
    feature = aggregate(model.qma2, s4, memory[2], memory[3])
    mask = model.mask_decoder(feature, s3, s2)
    refined = model.refine_decoder(model.crm(feature, box.to(query.dtype), mask), s3, s2).float()
    margins = (refined[:, 1] - refined[:, 0])[inside]
    scores = torch.cat([margins.new_zeros(1, *margins.shape[1:]), margins])
    probabilities = torch.softmax(scores, 0)
    labels = probabilities.argmax(0).to(torch.uint8)
    return labels, tight_boxes(prior[:, 0][inside] > 0.5), probabilities, memorize(model, s4)


def prepare(image: Tensor, dtype: torch.dtype) -> tuple[Tensor, tuple[int, int, int, int]]:
    """uint8 `[h, w, 3]` -> zero-padded `[1, 3, h', w']` in [0, 1], and the padding."""
    height, width = image.shape[:2]
    top, left = -height % 16 // 2, -width % 16 // 2
    pads = (left, -width % 16 - left, top, -height % 16 - top)
    query = (image.to(torch.float32) / 255).permute(2, 0, 1)[None].to(dtype)
    query = F.pad(query, pads)
    return query.contiguous(memory_format=torch.channels_last), pads


def encode_objects(encoder: Encoder, image: Tensor, maps: Tensor) -> tuple[Tensor, ...]:
    """f_m of one image `[1, 3, h, w]` and n maps; the image's part of the stem is shared."""
    if len(maps) == 1:
        return encoder(image, maps)
    weight = encoder.conv1.weight
    x = F.conv2d((image - encoder.mean) / encoder.std, weight[:, :3], encoder.conv1.bias, 2, 3)
    x = F.relu(x + F.conv2d(maps, weight[:, 3:], None, 2, 3), inplace=True)
    r2 = encoder.layer1(F.max_pool2d(x, 3, 2, 1))
    r3 = encoder.layer2(r2)
    return encoder.layer3(r3), r3, r2


def memorize(model: QMRA, r4: Tensor) -> list[Tensor]:
    """Keys and values of both stages, `[n, HW, c]` each."""
    return [
        x.permute(0, 2, 3, 1).flatten(1, 2)
        for qma in (model.qma1, model.qma2)
        for x in qma.memory_kv(r4)
    ]


def aggregate(qma: QueryMemoryAggregation, r4: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`QueryMemoryAggregation.forward` of one or n queries and memory `[n, t, HW, c]`."""
    key, value = qma.query_kv(r4)
    n = len(keys)
    query = (key * key.shape[1] ** -0.5).permute(0, 2, 3, 1).flatten(1, 2)
    attention = torch.softmax(query @ keys.flatten(1, 2).mT, -1)
    read = (attention @ values.flatten(1, 2)).unflatten(1, r4.shape[2:]).permute(0, 3, 1, 2)
    both = torch.cat([value.expand(n, -1, -1, -1), read], 1)
    weights = qma.fc2(F.relu(qma.fc1(both.mean((2, 3))))).sigmoid()
    return both * weights[:, :, None, None]


def tight_boxes(masks: Tensor) -> Tensor:
    """bool `[n, h, w]` -> int32 `[n, 4]`: x, y, width, height; zeros where a mask is empty."""
    edges = []
    for axis in (1, 2):
        hit = masks.any(axis).int()  # along x first
        first, size = hit.argmax(1), hit.shape[1]
        last = size - hit.flip(1).argmax(1)
        edges.append((first, last - first))
    (x, w), (y, h) = edges
    return (torch.stack([x, y, w, h], 1) * masks.flatten(1).any(1)[:, None]).int()


def count_flops(clip: Clip) -> int:
    """FLOP of one frame: 2 per multiply-add of convolutions and matrix products.

    Counted on the twin, which shares work between objects as ours does; nothing is computed.
    """
    with torch.device("meta"), torch.inference_mode():
        model = QMRA(**SIZES[clip.config])
        fold_batch_norms(model.eval())
        image = torch.empty(clip.height, clip.width, 3, dtype=torch.uint8)
        places = -(-clip.height // STRIDE) * -(-clip.width // STRIDE)
        widths = (model.qma1.query_kv.key.out_channels, model.qma1.query_kv.value.out_channels)
        memory = [torch.empty(clip.objects, clip.memory, places, c) for c in 2 * widths]
        with FlopCounterMode(display=False) as counter:
            see(model, image, memory)
    return counter.get_total_flops()


def fold_batch_norms(model: nn.Module) -> None:
    """Folds every BatchNorm into the convolution before it."""
    for module in list(model.modules()):
        for (before, conv), (name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(conv, norm))
                setattr(module, name, nn.Identity())
