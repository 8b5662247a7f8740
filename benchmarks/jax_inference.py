"""Our propagation as a program to be timed: `Propagator`, frame by frame, as anyone uses it."""

import itertools
import time
from pathlib import Path
from typing import Any

from benchmarks.clip import Clip

NEVER = 10**9  # an interval: no more extra frames


class JaxProgram:
    """A propagator whose memory holds as many frames as the clip says, and from then on does."""

    def __init__(self, clip: Clip, weights_file: Path | None, state_file: Path):
        """Starts JAX, leaves the weights in `state_file` for the others, and fills the memory.

        Args:
          clip: what to segment.
          weights_file: of the network; None: as initialised.
          state_file: to write.
        """
        import jax

        if clip.device != "auto":
            jax.config.update("jax_platforms", {"gpu": "cuda"}.get(clip.device, "cpu"))
        if not clip.tf32:
            jax.config.update("jax_default_matmul_precision", "highest")

        from qmra_jax import weights
        from qmra_jax.model import build_model
        from qmra_jax.propagate import Propagator
        from qmra_jax.train_state import init_variables

        model = build_model(clip.model_config())
        variables = weights.load(weights_file)[1] if weights_file else init_variables(model, 0)
        weights.save(state_file, variables, clip.model_config())
        self._jax = jax
        device = jax.devices()[0]
        self.facts: dict[str, Any] = {
            "version": f"jax {jax.__version__}",
            "platform": "cpu" if device.platform == "cpu" else "gpu",
            "device": device.device_kind,
        }
        self._propagator = Propagator(model, variables, interval=1)
        self._frames = itertools.cycle(clip.frames())
        self._propagator.start(next(self._frames), clip.boxes())
        for _ in range(clip.memory - 2):
            self._propagator.step(next(self._frames))
        self._propagator.interval = NEVER
        self._propagator.step(next(self._frames))

    def step(self) -> float:
        """A frame, its labels and boxes on the host; the share of it that is some object's."""
        result = self._propagator.step(next(self._frames))
        if "labels" not in self.facts:
            self.facts["labels"] = result.labels
            self.facts["probabilities"] = self._jax.device_get(result.probabilities)
        return float((result.labels > 0).mean())

    def matrix_product(self) -> float:
        """FLOP a second of a square float32 product, the better of three."""
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
