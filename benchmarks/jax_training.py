"""Our train step as a program to be timed: train.py's, on one batch that stays the same."""

import time
from pathlib import Path
from typing import Any

from benchmarks.workload import Workload


class JaxProgram:
    """The step of `train_step.py` under `parallel.py`, with the config's optimiser."""

    def __init__(self, workload: Workload, state_file: Path, cache: Path):
        """Starts JAX, and leaves the network's first weights in `state_file` for the others.

        The step is compiled, and kept in the folder `cache`, or loaded from there.
        """
        import jax

        jax.config.update("jax_compilation_cache_dir", str(cache))

        config = workload.training_config()
        if workload.device != "auto":
            jax.config.update("jax_platforms", {"gpu": "cuda"}.get(workload.device, "cpu"))
        if config.cpu_devices:
            jax.config.update("jax_num_cpu_devices", config.cpu_devices)
        if not workload.tf32:
            jax.config.update("jax_default_matmul_precision", "highest")

        from qmra_jax import parallel, weights
        from qmra_jax.model import build_model
        from qmra_jax.optimizer import make_optimizer, make_schedule
        from qmra_jax.train_state import create_train_state, init_variables
        from qmra_jax.train_step import make_train_step

        parallel.check_batch(config.batch_size)
        model = build_model(config.model)
        optimizer = make_optimizer(config.optimizer, config.steps)
        schedule = make_schedule(config.optimizer, config.steps)
        variables = init_variables(model, config.seed)
        if not state_file.exists():
            weights.save(state_file, variables, config.model)
        self._jax = jax
        self._state = parallel.replicate(create_train_state(variables, optimizer), config.parallel)
        self._step = parallel.parallelize(
            make_train_step(model, optimizer, schedule, config), config.parallel
        )
        self._batch = workload.batch()
        device = jax.devices()[0]
        self.facts: dict[str, Any] = {
            "version": f"jax {jax.__version__}",
            "platform": "cpu" if device.platform == "cpu" else "gpu",
            "device": device.device_kind,
            "devices": jax.device_count(),
        }

    def step(self) -> float:
        """A step, waited for; its loss."""
        self._state, metrics = self._step(self._state, self._batch)
        self._jax.block_until_ready(self._state)
        return float(metrics["loss"])

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
