"""The device of our timed programs."""

from collections.abc import Callable
from typing import Any


class JaxDevice:
    """Sets up JAX; `facts` has its version, platform ("cpu" or "gpu") and device."""

    def __init__(self, device: str, tf32: bool):
        """Starts JAX; see `workload.Setup`."""
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

    def matrix_product(self, n: int) -> Callable[[], Any]:
        """See `turns.Program`."""
        a = self._jax.numpy.ones((n, n))
        product = self._jax.jit(self._jax.numpy.matmul)
        return lambda: product(a, a).block_until_ready()

    def peak_memory(self) -> int:
        """See `turns.Program`."""
        return (self._jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
