"""Our train step as a timed program: train.py's, on one fixed batch."""

from pathlib import Path

from benchmarks.jax_device import JaxDevice
from benchmarks.workload import Workload


class JaxProgram(JaxDevice):
    """The step of `train_step.py` under `parallel.py`, with the config's optimizer."""

    def __init__(self, workload: Workload, state_file: Path, cache: Path):
        """Writes the initial weights to `state_file` for the other programs, if it is missing.

        The folder `cache` keeps the compiled step.
        """
        import jax

        config = workload.training_config()
        jax.config.update("jax_compilation_cache_dir", str(cache))
        if config.cpu_devices:
            jax.config.update("jax_num_cpu_devices", config.cpu_devices)
        super().__init__(workload.device, workload.tf32)
        self.facts["devices"] = jax.device_count()

        from qmra_jax import weights
        from qmra_jax.network.build import build_model, init_variables
        from qmra_jax.training import config_check, parallel
        from qmra_jax.training.optimizer import make_optimizer, make_schedule
        from qmra_jax.training.train_state import create_train_state
        from qmra_jax.training.train_step import make_train_step

        config_check.check_batch(config)
        model = build_model(config.model)
        optimizer = make_optimizer(config.optimizer, config.steps)
        schedule = make_schedule(config.optimizer, config.steps)
        variables = init_variables(model, config.seed)
        if not state_file.exists():
            weights.save(state_file, variables, config.model)
        self._state = parallel.replicate(create_train_state(variables, optimizer), config.parallel)
        self._step = parallel.parallelize(
            make_train_step(model, optimizer, schedule, config), config.parallel
        )
        self._batch = workload.batch()

    def step(self) -> float:
        """Does a step, waits for it and returns its loss."""
        self._state, metrics = self._step(self._state, self._batch)
        self._jax.block_until_ready(self._state)
        return float(metrics["loss"])
