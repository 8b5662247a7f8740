"""The device of the PyTorch twin's timed programs."""

from collections.abc import Callable
from typing import Any

import torch


class TorchDevice:
    """Sets up PyTorch; `facts` has its version, platform ("cpu" or "gpu"), device and threads."""

    def __init__(self, device: str, tf32: bool):
        """Sets the precision of products, and takes the GPU unless `device` is "cpu"."""
        self._cuda = device != "cpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if self._cuda else "cpu")
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        self.facts: dict[str, Any] = {
            "version": f"torch {torch.__version__}",
            "platform": "gpu" if self._cuda else "cpu",
            "device": torch.cuda.get_device_name() if self._cuda else "cpu",
            "threads": torch.get_num_threads(),
        }

    def wait(self) -> None:
        """Waits for the GPU."""
        if self._cuda:
            torch.cuda.synchronize()

    def matrix_product(self, n: int) -> Callable[[], Any]:
        """See `turns.Program`."""
        a = torch.ones(n, n, device=self._device)

        def multiply() -> None:
            a @ a
            self.wait()

        return multiply

    def peak_memory(self) -> int:
        """See `turns.Program`."""
        return torch.cuda.max_memory_allocated() if self._cuda else 0
