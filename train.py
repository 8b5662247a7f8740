"""Trains QMRA.

    python train.py --config=configs/small.py --workdir=runs/small [--config.batch_size=4 ...]

The same command resumes a run that was stopped, with the same result as if it had not been. Watch
it with `tensorboard --logdir runs`. To train on several hosts, run the command on each of them with
--distributed=auto (a TPU slice, SLURM) or --distributed=ADDRESS:PORT,COUNT,INDEX; see
docs/tpu_pod.md.

Exit status: 0 all steps are done; 2 bad input; 3 a loss or gradient is not finite; 75 stopped by
SIGTERM or Ctrl-C after saving: run the command again to resume.
"""

import contextlib
import functools
import itertools
import sys

import jax
from absl import flags, logging
from etils import epath
from ml_collections import config_flags

from data_pipeline.triplets.stream import open_stream
from qmra_jax import drawing, errors, plugins
from qmra_jax.network.build import build_model, init_variables, variable_shapes
from qmra_jax.runtime import compile_cache, host_memory
from qmra_jax.training import (
    checkpoint,
    config_check,
    distributed,
    initialization,
    nonfinite,
    parallel,
    preemption,
    progress,
    workdir,
)
from qmra_jax.training.inspection import make_inspect
from qmra_jax.training.metric_writer import open_writer
from qmra_jax.training.optimizer import make_optimizer, make_schedule
from qmra_jax.training.train_state import create_train_state
from qmra_jax.training.train_step import make_diagnose, make_train_step
from qmra_jax.training.validation import Abandoned, open_validation

_CONFIG = config_flags.DEFINE_config_file("config", None, "File in configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, local or gs://BUCKET/...")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed", "", "auto | ADDRESS:PORT,COUNT,INDEX: train with several processes."
)
_PLUGINS = flags.DEFINE_multi_string("plugin", [], "A module that adds readers, datasets, ...")
PICTURE_ROWS = 4  # examples of a batch to draw and to measure memory reads on


def train(config, run: epath.PathLike) -> int:
    """Trains in the workdir `run`, from its newest checkpoint if it has one.

    Returns:
      The exit status: 0 if all steps are done, `preemption.STOPPED` if asked to stop.

    Raises:
      InputError: if config, data or workdir cannot be used; before anything is compiled.
      LossNotFinite: if a loss or gradient is not finite; the last good state is saved.
    """
    # --------------------------------------------------------------- settings
    run = epath.Path(run)
    config_check.check(config)
    if config.cpu_devices:
        parallel.simulate_devices(config.cpu_devices)
    distributed.check_same_config(workdir.plain(config))
    config_check.check_batch(config)
    workdir.check_run(run, config)
    validation = open_validation(config, run)
    host_index, host_count = distributed.place()
    is_first = distributed.is_first()

    # ------------------------------------------------------------------ model
    model = build_model(config.model)
    shapes = variable_shapes(model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)
    train_step = parallel.parallelize(
        make_train_step(model, optimizer, schedule, config), config.parallel
    )
    diagnose = parallel.parallelize(make_diagnose(model, config), config.parallel)
    inspect = make_inspect(model)

    # ---------------------------------------------------------- initial state
    # 1. From the newest checkpoint in the workdir, if there is one; else
    # 2. from init_from, another run or a weights file; else
    # 3. from random weights, or ImageNet's in the encoders with init.encoders, and
    # 4. keys fitted to training images with init.key_projection "pca".
    make_state = functools.partial(
        create_train_state, optimizer=optimizer, ema=bool(config.ema_decay)
    )
    frozen = initialization.load_frozen(shapes, config)
    restored = checkpoint.restore(run, jax.eval_shape(make_state, shapes).replace(frozen=frozen))
    start = None if restored else initialization.check(model, config, run, frozen)
    first_step = int(restored.step) if restored else 0
    if first_step >= config.steps and not validation.is_missing(first_step):
        if is_first:
            print(f"{run} has all {config.steps} steps already.")
        return 0

    # ------------------------------------------------------------------- data
    stream = functools.partial(
        open_stream,
        config.data,
        seed=config.seed,
        global_batch=config.batch_size,
        host_index=host_index,
        host_count=host_count,
    )
    batches = stream(start_step=first_step)
    triplets = itertools.chain([next(batches)], batches)  # bad data fails here, before compiling

    # ------------------------------------------------------ workdir, devices
    if is_first:
        workdir.claim(run, config, start.source if start else "")
    meta = checkpoint.make_meta(config, frozen)
    init = functools.partial(init_variables, model, config.seed)
    state = make_state(start.variables(model, init)) if start else restored
    state = parallel.replicate(state, config.parallel)
    del start, restored, frozen  # copies on the host

    # ------------------------------------------------------------------- loop
    clock = progress.StepClock(config.batch_size)
    with (
        preemption.StopRequest() as stop,  # entered first: catches signals until all is written
        contextlib.closing(batches),
        checkpoint.open_checkpoints(  # its exit waits until all checkpoints are written
            run, config.keep_checkpoints, validation.best
        ) as manager,
        contextlib.closing(open_writer(run, first_step)) as writer,
        contextlib.closing(progress.Profile(config.profile, run, first_step)) as profile,
        contextlib.closing(progress.StepBar(config.steps, first_step)) as bar,
    ):

        def is_due(every: int) -> bool:
            return step % every == 0 or step == config.steps

        def validate() -> bool:
            """Evaluates the state; False if a request to stop ended it early."""
            bar.set_postfix_str("evaluating")
            variables = parallel.local_copy(state).variables
            try:
                scores = validation(step, model, variables, stop=stop.at_once)
            except Abandoned:
                return False
            writer.scalars(step, {f"validation/{name}": value for name, value in scores.items()})
            bar.tell(step, f"validation J&F {scores['J&F']:.3f}")
            return True

        step = first_step
        stopping = validation.is_missing(step) and not validate()
        clock.restart()
        while step < config.steps and not stopping:
            step += 1
            batch = clock.next(triplets)
            del batch["id"]  # strings cannot go to devices
            batch["stop"] = stop.flags(len(batch["images"]))
            if step == first_step + 1:
                bar.tell(first_step, "compiling the train step")
            profile.before(step)
            state, metrics = train_step(state, batch)
            with clock.pause():
                profile.after(step, metrics)
            bar.update()
            clock.count()
            stopping = stop.reached(metrics)
            if step == first_step + 1:  # its time includes compiling
                jax.block_until_ready(metrics)
                clock.restart()

            is_logged = is_due(config.log_every)
            is_pictured = is_due(config.picture_every)
            is_validated = validation.is_due(step)
            is_saved = is_due(config.checkpoint_every) or is_validated or stopping
            if (is_logged or is_pictured or is_saved) and parallel.local_copy(state.halted):
                # State is frozen since the first non-finite step: repeat that step to explain it.
                checkpoint.save(manager, state, meta)
                good = int(parallel.local_copy(state.step))
                with contextlib.closing(stream(start_step=good)) as again:
                    raise nonfinite.explain(diagnose, state, next(again), run)

            if (is_logged or is_pictured) and is_first:
                jax.block_until_ready(metrics)  # training time, so not in the pause
                with clock.pause():
                    few = {name: value[:PICTURE_ROWS] for name, value in batch.items()}
                    probabilities, reads = inspect(parallel.local_copy(state), few)
                    metrics |= jax.device_get(reads)
                    if is_pictured:
                        sheet = drawing.triplet_sheet(
                            few["images"], few["masks"], few["boxes"], jax.device_get(probabilities)
                        )
                        writer.picture(step, "triplets", sheet)

            if is_logged:
                metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
                del metrics["finite"], metrics["stop"]
                metrics |= clock.read() | progress.memory()
                writer.scalars(step, metrics)
                bar.tell(step, progress.summary(metrics))

            if is_saved:
                with clock.pause():
                    checkpoint.save(manager, state, meta)
            if is_validated and not stopping:
                with clock.pause():
                    stopping = not validate()

    # -------------------------------------------------------------------- end
    distributed.barrier("end of the run")  # no process exits while another still writes
    if step < config.steps or validation.is_missing(step):
        if is_first:
            print(f"Stopped after step {step}, which is saved: run the same command to resume.")
        return preemption.STOPPED
    return 0


def main(_) -> int:
    """Runs `train` with the config and workdir of the command line."""
    logging.set_verbosity(logging.WARNING)  # Orbax logs every file it touches
    if _CONFIG.value is None or _WORKDIR.value is None:
        raise errors.InputError(
            "--config and --workdir are required:"
            " python train.py --config=configs/small.py --workdir=runs/small"
        )
    plugins.load_plugins(_PLUGINS.value)
    host_memory.keep_freed_memory()
    distributed.initialize(_DISTRIBUTED.value)
    compile_cache.keep_compiled_programs()
    try:
        return train(_CONFIG.value, _WORKDIR.value)
    except nonfinite.LossNotFinite as error:
        print(f"error: {error}", file=sys.stderr)
        return nonfinite.STATUS


if __name__ == "__main__":
    errors.run_app(main)
