"""Trains QMRA.

    python train.py --config=configs/small.py --workdir=runs/small [--config.batch_size=4 ...]

A run goes on by itself from its workdir. Watch it with `tensorboard --logdir runs`.
"""

import itertools
import time
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from data_pipeline.stream import batches, make_stream
from qmra_jax import checkpoint, errors, parallel, pretrained, visualize
from qmra_jax.metric_writer import MetricWriter
from qmra_jax.model import build_model
from qmra_jax.optimizer import make_optimizer, make_schedule
from qmra_jax.train_state import create_train_state, init_variables
from qmra_jax.train_step import make_predict, make_train_step

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints and metrics.")
PICTURE_ROWS = 4


def train(config, workdir: Path) -> None:
    """Trains as `config` says, in `workdir`, going on from its newest checkpoint.

    Raises:
      InputError: if config, data or workdir cannot be used; before anything is compiled.
    """
    # --------------------------------------------------------------- schedule
    for name in ("steps", "log_every", "picture_every", "checkpoint_every"):
        if config[name] < 1:
            raise errors.InputError(f"{name} {config[name]}: expected at least 1")

    def is_due(step: int, every: int) -> bool:
        return step % every == 0 or step == config.steps

    # ---------------------------------------------------------------- devices
    if config.cpu_devices:
        jax.config.update("jax_num_cpu_devices", config.cpu_devices)
    parallel.check_batch(config.batch_size)

    # ------------------------------------------------------------------ model
    model = build_model(config.model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)
    train_step = parallel.parallelize(make_train_step(model, optimizer, schedule), config.parallel)
    predict = make_predict(model)

    # ------------------------------------------------------------------- data
    first_step = checkpoint.find_run(workdir, config)
    if first_step >= config.steps:
        print(f"{workdir} has all {config.steps} steps already.")
        return
    if config.init.encoders and not first_step:
        pretrained.check_encoders(model, config.init.encoders)
    triplets = batches(
        make_stream(
            config.data,
            seed=config.seed,
            global_batch=config.batch_size,
            start_step=first_step,
            host_index=jax.process_index(),
            host_count=jax.process_count(),
        )
    )
    first = next(triplets)  # what is wrong with the data shows here, before anything is compiled
    triplets = itertools.chain([first], triplets)

    # ------------------------------------------------------ state, checkpoint
    variables = init_variables(model, config.seed)
    if config.init.encoders and not first_step:
        variables = pretrained.load_encoders(
            variables,
            config.init.encoders,
            extra_channel=config.init.extra_channel,
            seed=config.seed,
        )
    checkpoint.claim_workdir(workdir, config)
    manager = checkpoint.open_checkpoints(workdir, config)
    state = parallel.replicate(create_train_state(variables, optimizer))
    state = checkpoint.restore(manager, state)

    # ------------------------------------------------------------------- loop
    writer = MetricWriter(workdir, first_step)
    bar = tqdm(
        total=config.steps, initial=first_step, unit="step", dynamic_ncols=True, disable=None
    )
    logged, since, waited = first_step, time.perf_counter(), 0.0
    for step in range(first_step + 1, config.steps + 1):
        asked = time.perf_counter()
        batch = next(triplets)
        del batch["id"]  # texts are not for devices
        waited += time.perf_counter() - asked
        state, metrics = train_step(state, batch)
        bar.update()
        if step == first_step + 1:  # it compiled, which is not for triplets a second to tell
            jax.block_until_ready(metrics)
            logged, since, waited = step, time.perf_counter(), 0.0

        if is_due(step, config.log_every):
            metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
            now = time.perf_counter()
            metrics["triplets_per_second"] = (step - logged) * config.batch_size / (now - since)
            metrics["data_wait_share"] = waited / (now - since)
            logged, since, waited = step, now, 0.0
            writer.scalars(step, metrics)
            bar.set_postfix_str(
                f"loss {metrics['loss']:.3f}, J {metrics['J_refined']:.3f},"
                f" {metrics['triplets_per_second']:.1f} triplets/s"
            )
            if bar.disable and jax.process_index() == 0:
                print(f"step {step}/{config.steps}: {bar.postfix}", flush=True)

        if is_due(step, config.picture_every):
            few = {name: value[:PICTURE_ROWS] for name, value in batch.items()}
            sheet = visualize.triplet_sheet(
                few["images"], few["masks"], few["boxes"], jax.device_get(predict(state, few))
            )
            writer.picture(step, "triplets", sheet)

        if is_due(step, config.checkpoint_every):
            checkpoint.save(manager, state, config)

    # -------------------------------------------------------------------- end
    bar.close()
    writer.close()
    manager.wait_until_finished()
    manager.close()


def main(_) -> None:
    """Runs `train` with the flags' config and workdir."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells every file it touches
    if _CONFIG.value is None or _WORKDIR.value is None:
        raise errors.InputError(
            "--config and --workdir are needed:"
            " python train.py --config=configs/small.py --workdir=runs/small"
        )
    train(_CONFIG.value, Path(_WORKDIR.value))


if __name__ == "__main__":
    errors.run_app(main)
