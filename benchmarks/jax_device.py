"""Where a program of ours runs that is to be timed."""

import time
from typing import Any


class JaxDevice:
    """JAX, started as asked; what programs on it tell of the device.

    Attributes:
      facts: version, platform ("cpu" or "gpu") and device, in words.
    """

    def __init__(self, device: str, tf32: bool):
        """Starts JAX.

        Args:
          device: "auto", "cpu" or "gpu".
          tf32: whether a GPU may round float32 factors to TF32.
        """
        import jax

        if device != "auto":
            jax.config.update("jax_platforms", {"gpu": "cuda"}.get(device, "cpu"))
        if not tf32:
            jax.config.update("jax_default_matmul_precision", "highest")
        self._jax = jax
        first = jax.devices()[0]
        self.facts: dict[str, Any] = {
            "version": f"jax {jax.__version__}",
            "platform": "cpu" if first.platform == "cpu" else "gpu",
            "device": first.device_kind,
        }

    def matrix_product(self) -> float:
        """FLOP a second of a square float32 product, the best of three."""
        jnp = self._jax.numpy
        n = 8192 if self.facts["platform"] == "gpu" else 2048
        a = jnp.ones((n, n))
        product = self._jax.jit(jnp.matmul)
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            product(a, a).block_until_ready()
            seconds.append(time.perf_counter() - start)
        return 2 * n**3 / min(seconds[1:])

    def peak_memory(self) -> int:
        """Of the first accelerator, in bytes."""
        return (self._jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
