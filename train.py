"""Trains QMRA.

    python train.py --config=configs/small.py --workdir=runs/small [--config.batch_size=4 ...]

The same command goes on with a run that was stopped, and ends as if it had not been. Watch it with
`tensorboard --logdir runs`. On several hosts each runs this command, with --distributed=auto (a TPU
slice, SLURM) or --distributed=ADDRESS:PORT,COUNT,INDEX: see docs/tpu_pod.md.

Exit status: 0 all steps are done; 2 bad input; 3 a loss or gradient that is not finite; 75 stopped
by SIGTERM or Ctrl-C after saving: run it again to go on.
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
from qmra_jax import drawing, errors
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

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, local or gs://BUCKET/...")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed", "", "auto | ADDRESS:PORT,COUNT,INDEX: this is one of several processes."
)
PICTURE_ROWS = 4  # examples of a batch that are drawn, and whose memory reads are measured


def train(config, run: epath.PathLike) -> int:
    """Trains as `config` says, in the workdir `run`, going on from its newest checkpoint.

    Returns:
      The exit status: 0 when all steps are done, `preemption.STOPPED` when asked to stop.

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
    is_first = distributed.is_first()

    def is_due(step: int, every: int) -> bool:
        return step % every == 0 or step == config.steps

    # ------------------------------------------------------------------ model
    model = build_model(config.model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)
    train_step = parallel.parallelize(
        make_train_step(model, optimizer, schedule, config), config.parallel
    )
    inspect = make_inspect(model)
    diagnose = parallel.parallelize(make_diagnose(model, config), config.parallel)

    make_state = functools.partial(
        create_train_state, optimizer=optimizer, ema=bool(config.ema_decay)
    )

    # ------------------------------------------------------------------ start
    # 1. From the workdir's newest checkpoint, where it has one; or else
    # 2. from init_from, another run or a weights file; or else
    # 3. from random weights, with ImageNet's in the encoders where init.encoders names them, and
    # 4. with keys fitted to training images where init.key_projection is "pca".
    workdir.check_run(run, config)
    validation = open_validation(config, run)

    def is_to_validate(step: int) -> bool:
        return validation.is_due(step, config.steps) and not validation.is_done(step)

    shapes = variable_shapes(model)
    frozen = initialization.load_frozen(shapes, config)
    like = jax.eval_shape(make_state, shapes).replace(frozen=frozen)
    restored = checkpoint.restore(run, like)
    begun = initialization.check(model, config, run, frozen) if restored is None else None
    first_step = int(restored.step) if restored else 0
    if first_step >= config.steps and not is_to_validate(first_step):
        if is_first:
            print(f"{run} has all {config.steps} steps already.")
        return 0

    # ------------------------------------------------------------------- data
    host_index, host_count = distributed.place()
    stream = functools.partial(
        open_stream,
        config.data,
        seed=config.seed,
        global_batch=config.batch_size,
        host_index=host_index,
        host_count=host_count,
    )
    source = stream(start_step=first_step)
    first = next(source)  # what is wrong with the data shows here, before anything is compiled
    triplets = itertools.chain([first], source)
    del first

    # ------------------------------------------------------------------ state
    if is_first:
        workdir.claim(run, config, begun.source if begun else "")
    fresh = functools.partial(init_variables, model, config.seed)
    state = make_state(begun.variables(model, fresh)) if begun else restored
    state = parallel.replicate(state, config.parallel)
    del begun, restored  # the host's copies

    # ------------------------------------------------------------------- loop
    clock = progress.StepClock(config.batch_size)
    with (
        preemption.StopRequest() as stop,  # the first, to listen until the last is written
        contextlib.closing(source),
        checkpoint.open_checkpoints(
            run, config.keep_checkpoints, lambda steps: validation.best(config.keep_best, steps)
        ) as manager,  # leaving waits until all is written
        contextlib.closing(open_writer(run, first_step)) as writer,
        contextlib.closing(progress.Profile(config.profile, run, first_step)) as profile,
        contextlib.closing(progress.StepBar(config.steps, first_step)) as bar,
    ):

        def validate(step: int) -> bool:
            """Evaluates; False if a request to stop came first."""
            bar.note("evaluating")
            variables = parallel.local_copy(state).variables
            try:
                scores = validation(step, model, variables, stop=stop.at_once)
            except Abandoned:
                return False
            writer.scalars(step, {f"validation/{name}": value for name, value in scores.items()})
            bar.tell(step, f"validation J&F {scores['J&F']:.3f}")
            return True

        step = first_step
        stopping = is_to_validate(step) and not validate(step)
        clock.restart()
        while step < config.steps and not stopping:
            step += 1
            batch = clock.next(triplets)
            del batch["id"]  # texts are not for devices
            batch["stop"] = stop.flags(len(batch["images"]))
            profile.before(step)
            state, metrics = train_step(state, batch)
            with clock.pause():
                profile.after(step, metrics)
            bar.update()
            clock.count()
            stopping = stop.reached(metrics)
            if step == first_step + 1:  # it compiled, which is not for triplets a second to tell
                jax.block_until_ready(metrics)
                clock.restart()

            is_logged = is_due(step, config.log_every)
            is_pictured = is_due(step, config.picture_every)
            is_validated = validation.is_due(step, config.steps)
            is_saved = is_due(step, config.checkpoint_every) or is_validated or stopping
            if (is_logged or is_pictured or is_saved) and parallel.local_copy(state.halted):
                # Since a step that is not finite: the state is the one before it.
                checkpoint.save(manager, state, config)
                good = int(parallel.local_copy(state.step))
                with contextlib.closing(stream(start_step=good)) as again:
                    raise nonfinite.explain(diagnose, state, next(again), run)

            if (is_logged or is_pictured) and is_first:
                jax.block_until_ready(metrics)  # what the pause waits for is then no training
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
                    checkpoint.save(manager, state, config)
            if is_validated and not stopping:
                with clock.pause():
                    stopping = not validate(step)

    # -------------------------------------------------------------------- end
    distributed.barrier("end of the run")  # no process leaves while another still writes
    if step < config.steps or is_to_validate(step):
        if is_first:
            print(f"Stopped after step {step}, which is saved: run the same command to go on.")
        return preemption.STOPPED
    return 0


def main(_) -> int:
    """Runs `train` with the flags' config and workdir."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells every file it touches
    if _CONFIG.value is None or _WORKDIR.value is None:
        raise errors.InputError(
            "--config and --workdir are needed:"
            " python train.py --config=configs/small.py --workdir=runs/small"
        )
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
