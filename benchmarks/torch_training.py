"""The twin's train step as a timed program: train_step.py in PyTorch.

channels_last, a fused AdamW with groups for learning rate and decay, frozen BatchNorm, clipped
gradients. Its losses equal ours up to rounding, as `training.py` checks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import torch_qmra
from benchmarks.torch_device import TorchDevice
from benchmarks.torch_qmra import QMRA, SIZES, filled_boxes, qmra_loss
from benchmarks.workload import Workload

ENCODERS = ("query_encoder.", "memory_encoder.")


class TorchProgram(TorchDevice):
    """The twin's step, eager or compiled by torch.compile."""

    def __init__(self, workload: Workload, state_file: Path, compiled: bool):
        """Loads the weights that our program wrote to `state_file`."""
        super().__init__(workload.device, workload.tf32)
        config = workload.training_config()
        self._autocast = torch.autocast(
            self._device.type, torch.bfloat16, enabled=workload.dtype == "bfloat16"
        )
        model = QMRA(**SIZES[workload.config])
        model.load_state_dict(load_file(state_file), strict=True)
        self._model = model.to(self._device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._batch = {
            name: torch.from_numpy(array).to(self._device)
            for name, array in workload.batch().items()
        }
        self._optimizer = make_optimizer(self._model, config.optimizer)
        self._warmup, self._clip_norm = config.optimizer.warmup_steps, config.optimizer.clip_norm
        self._done = 0
        self._loss = _compiled(self._plain_loss) if compiled else self._plain_loss

    def _plain_loss(self, batch: dict[str, Tensor]) -> Tensor:
        inputs, mask, box_map = unpack(batch)
        with self._autocast:
            outputs = self._model(*inputs)
        return qmra_loss({name: x.float() for name, x in outputs.items()}, mask, box_map)

    def step(self) -> float:
        """Does a step, waits for it and returns its loss."""
        self._done += 1
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, self._done / max(self._warmup, 1))
        self._optimizer.zero_grad()
        loss = self._loss(self._batch)
        loss.backward()
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm)
        self._optimizer.step()
        self.wait()
        return loss.item()


def _compiled(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.compile`, with bilinear upsampling left eager.

    Compiled by torch 2.13 on a CPU, some of it passes no gradient, and losses differ from the
    second step on.
    """
    torch_qmra._enlarge = torch.compiler.disable(torch_qmra._enlarge)
    return torch.compile(loss)


def unpack(batch: dict[str, Tensor]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """A batch of triplets for the twin; see `train_step.unpack`.

    Returns:
      query `[b, 3, h, w]`, memory_images `[b, 2, 3, h, w]` and memory_maps `[b, 2, 1, h, w]`; the
      query's mask and filled box `[b, h, w]`.
    """
    images = batch["images"].movedim(-1, -3).float() / 255  # channels stay last in memory
    maps = filled_boxes(batch["boxes"], *images.shape[-2:]).float()
    inputs = images[:, 2], images[:, :2], maps[:, :2, None]
    return inputs, batch["masks"][:, 2], maps[:, 2]


def make_optimizer(model: QMRA, config: Any) -> torch.optim.Optimizer:
    """`optimizer.make_optimizer` in PyTorch; "peak" is the full learning rate of a group.

    Groups differ in learning rate and weight decay; decay of biases and BatchNorm is optional.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = config.encoder_scale if name.startswith(ENCODERS) else 1.0
        decays = parameter.ndim > 1 or config.decay_norm_and_bias
        key = config.learning_rate * scale, config.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": params, "peak": peak, "weight_decay": decay}
            for (peak, decay), params in groups.items()
        ],
        lr=config.learning_rate,
        fused=True,
    )


def count_flops(workload: Workload) -> int:
    """FLOP of one step, forward and backward: 2 per multiply-add of convolutions and products.

    Counted on the twin by definition; nothing is computed.
    """
    with torch.device("meta"):
        model = QMRA(**SIZES[workload.config])
        batch = {k: torch.empty(v.shape, dtype=torch.uint8) for k, v in workload.batch().items()}
        batch["boxes"] = batch["boxes"].int()
        with FlopCounterMode(display=False) as counter:
            inputs, mask, box_map = unpack(batch)
            qmra_loss(model(*inputs), mask, box_map).backward()
    return counter.get_total_flops()
