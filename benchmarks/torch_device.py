"""Where a program of the twin's runs that is to be timed."""

import time
from typing import Any

import torch


class TorchDevice:
    """PyTorch, set up as asked; what programs on it tell of the device.

    Attributes:
      facts: version, platform ("cpu" or "gpu"), device, in words, and threads.
    """

    def __init__(self, device: str, tf32: bool):
        """Sets the precision of products, and takes the GPU unless `device` is "cpu".

        Args:
          device: "auto", "cpu" or "gpu".
          tf32: whether a GPU may round float32 factors to TF32.
        """
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
        """Until the device has done what it was given."""
        if self._cuda:
            torch.cuda.synchronize()

    def matrix_product(self) -> float:
        """FLOP a second of a square float32 product, the best of three."""
        n = 8192 if self._cuda else 2048
        a = torch.ones(n, n, device=self._device)
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            a @ a
            self.wait()
            seconds.append(time.perf_counter() - start)
        return 2 * n**3 / min(seconds[1:])

    def peak_memory(self) -> int:
        """Of the GPU, in bytes."""
        return torch.cuda.max_memory_allocated() if self._cuda else 0
