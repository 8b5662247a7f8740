"""Our propagation as a timed program: `Propagator`, frame by frame."""

import itertools
from pathlib import Path

from benchmarks.clip import Clip
from benchmarks.jax_device import JaxDevice

NEVER = 10**9  # interval without further memory frames


class JaxProgram(JaxDevice):
    """A propagator whose memory keeps the number of frames that the clip names."""

    def __init__(self, clip: Clip, weights_file: Path | None, state_file: Path):
        """Fills the memory, and writes the weights, random without a file, to `state_file`."""
        super().__init__(clip.device, clip.tf32)

        from qmra_jax import weights
        from qmra_jax.inference.propagator import Propagator
        from qmra_jax.network.build import build_model, init_variables

        model = build_model(clip.model_config())
        variables = weights.load(weights_file)[1] if weights_file else init_variables(model, 0)
        weights.save(state_file, variables, clip.model_config())
        self._propagator = Propagator(model, variables, interval=1)
        self._frames = itertools.cycle(clip.frames())
        self._propagator.start(next(self._frames), clip.boxes())
        for _ in range(clip.memory - 2):
            self._propagator.step(next(self._frames))
        self._propagator.interval = NEVER
        self._propagator.step(next(self._frames))

    def step(self) -> float:
        """Segments a frame, with labels and boxes on the host; returns the share of foreground."""
        result = self._propagator.step(next(self._frames))
        if "labels" not in self.facts:
            self.facts["labels"] = result.labels
            self.facts["probabilities"] = self._jax.device_get(result.probabilities)
        return float((result.labels > 0).mean())
