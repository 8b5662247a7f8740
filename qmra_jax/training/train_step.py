"""One training step, as seen by one device.

All collectives are here, except those of synchronised BatchNorm.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from einops import rearrange

from qmra_jax import boxes
from qmra_jax.network.model import QMRA
from qmra_jax.training.losses import batch_jaccard, example_losses, loss_options, qmra_loss
from qmra_jax.training.memory_maps import draw_predicted
from qmra_jax.training.optimizer import update_ema
from qmra_jax.training.train_state import TrainState

AXIS = "data"
Metrics = dict[str, jax.Array]


def unpack(batch: dict[str, Any], remembers: str = "box") -> dict[str, jax.Array]:
    """Converts a batch of triplets to the network's inputs and labels.

    Args:
      batch: images uint8 `[b, 3, h, w, 3]`, masks uint8 `[b, 3, h, w]`, boxes int32 `[b, 3, 4]`:
        two memory frames, then the query.
      remembers: contents of the memory frames' maps, "box" or "mask"; see `QMRA.remembers`.

    Returns:
      The inputs query, memory_images and memory_maps of `QMRA.__call__`, and the labels of Eq. 10:
      mask (S_l) and box (B_l), float32 `[b, h, w]`.
    """
    images = batch["images"].astype(jnp.float32) / 255
    masks = batch["masks"].astype(jnp.float32)
    maps = boxes.box_to_map(batch["boxes"], *images.shape[2:4])
    memory_maps = {"box": maps, "mask": masks}[remembers]
    return {
        "query": images[:, 2],
        "memory_images": images[:, :2],
        "memory_maps": memory_maps[:, :2, ..., None],
        "mask": masks[:, 2],
        "box": maps[:, 2],
    }


def make_targets(model: QMRA, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The label of each output, `[b, h, w]` by name, from what `unpack` returned."""
    return {name: inputs[kind] for name, kind in model.targets.items()}


def example_numbers(batch) -> jax.Array:
    """Numbers of this device's examples in the global batch, int32 `[b]`."""
    local = len(batch["images"])
    return jax.lax.axis_index(AXIS) * local + jnp.arange(local)


def make_forward(model: QMRA, config: Any) -> Callable:
    """Makes (variables, inputs, step, examples) -> (logits by output name, new batch_stats).

    `inputs` comes from `unpack`, `step` is the number of steps done, and `examples` is
    `example_numbers`.
    """
    if model.batch_norm == "sync":
        model = model.clone(stats_axis=AXIS)

    def forward(variables, inputs, step, examples):
        args: list[Any] = [inputs[name] for name in ("query", "memory_images", "memory_maps")]
        kwargs: dict[str, Any] = {}
        predicted = draw_predicted(config, step, examples)
        if predicted is not None:
            args.append(predicted)
            kwargs = {"method": "with_predicted_maps", "gradient": config.predicted_gradient}
        if model.batch_norm == "frozen":
            return model.apply(variables, *args, **kwargs), variables["batch_stats"]
        outputs, changed = model.apply(variables, *args, **kwargs, mutable=["batch_stats"])
        return outputs, changed["batch_stats"]

    return forward


def make_gradient(model: QMRA, config: Any) -> Callable:
    """Makes (params, state, batch) -> (gradients, new batch_stats, metrics) of one device.

    `params` is the device's own copy of `state.params`.

    With `config.grad_accumulation` n, the batch is processed as n micro-batches in turn.
    Micro-batch k holds the examples whose number modulo n is k, so that over all devices it holds
    the same examples for any number of devices. Synchronised BatchNorm normalises by the statistics
    of a micro-batch.
    """
    forward = make_forward(model, config)
    parts = config.grad_accumulation

    def loss_fn(params, batch_stats, state, batch, examples):
        inputs = unpack(batch, model.remembers)
        targets = make_targets(model, inputs)
        variables = state.collections(params, batch_stats)
        outputs, batch_stats = forward(variables, inputs, state.step, examples)
        loss, terms = qmra_loss(outputs, targets, **loss_options(config.loss, state.step))
        metrics = {"loss": loss} | {f"loss_{name}": term for name, term in terms.items()}
        for name, logits in outputs.items():
            metrics[f"J_{name}"] = batch_jaccard(logits, targets[name])
        return loss, (batch_stats, metrics)

    grad_fn = jax.grad(loss_fn, has_aux=True)

    def gradient(params, state, batch):
        examples = example_numbers(batch)
        if parts == 1:
            grads, (batch_stats, metrics) = grad_fn(
                params, state.batch_stats, state, batch, examples
            )
            return grads, batch_stats, metrics

        def micro(carry, part):
            total, batch_stats = carry
            grads, (batch_stats, metrics) = grad_fn(params, batch_stats, state, *part)
            return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

        batch, examples = jax.tree.map(
            lambda x: rearrange(x, "(b n) ... -> n b ...", n=parts), (batch, examples)
        )
        zeros = jax.tree.map(lambda x: 0 * x, params)  # varying over the devices, as params are
        (total, batch_stats), metrics = jax.lax.scan(
            micro,
            (zeros, state.batch_stats),
            (batch, examples),
            # XLA's CPU backend runs convolutions in a loop 40 times slower. Unrolled they keep
            # their speed, but accumulation then saves no memory.
            unroll=jax.default_backend() == "cpu",
        )
        grads = jax.tree.map(lambda x: x / parts, total)
        return grads, batch_stats, jax.tree.map(lambda x: x.mean(axis=0), metrics)

    return gradient


def make_train_step(
    model: QMRA, optimizer: optax.GradientTransformation, schedule: optax.Schedule, config: Any
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Makes the step: (state, batch) -> (state, metrics), under a mapped axis named `AXIS`.

    A step with a non-finite loss or gradient only sets `TrainState.halted`, and later steps change
    nothing: however late the training loop checks, it finds the state of the last good step.

    Args:
      model: the network.
      optimizer: converts gradients to updates.
      schedule: the learning rate, for the metrics.
      config: the run's config: seed, grad_accumulation, memory_maps, predicted_share,
        predicted_gradient, loss, ema_decay.

    Returns:
      A function of a replicated `TrainState` and this device's share of a batch of triplets. Its
      metrics are float32 scalars, the same on every device: loss, loss_NAME and J_NAME of each
      output, grad_norm (before clipping), update_norm, param_norm (after the step), learning_rate,
      and finite (0 for a step that changed nothing, else 1). If the batch has an entry "stop", bool
      `[b]`, the metric stop is 1 if it is set for any example of any device.
    """
    gradient = make_gradient(model, config)

    def train_step(state: TrainState, batch) -> tuple[TrainState, Metrics]:
        # Each device differentiates its own copy. Otherwise jit(shard_map) would sum the gradients
        # of parameters that it knows to be replicated, before the mean below.
        params = jax.tree.map(lambda x: jax.lax.pcast(x, AXIS, to="varying"), state.params)
        grads, batch_stats, metrics = gradient(params, state, batch)
        grads, metrics = jax.lax.pmean((grads, metrics), AXIS)
        if "stop" in batch:
            metrics["stop"] = jax.lax.pmax(batch["stop"].any().astype(jnp.float32), AXIS)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.ema_params
        if average is not None:
            average = update_ema(average, params, state.step, config.ema_decay)
        metrics["grad_norm"] = optax.tree.norm(grads)
        # The parameters are checked too: a finite gradient can still overflow them.
        checked = (metrics["loss"], metrics["grad_norm"], optax.tree.norm((params, batch_stats)))
        finite = jnp.isfinite(jnp.stack(checked)).all() & ~state.halted
        old = state.replace(frozen=None, halted=~finite)
        new = TrainState(
            state.step + 1, params, batch_stats, opt_state, average, None, halted=~finite
        )
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        new = new.replace(frozen=state.frozen)
        metrics |= {
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(new.params),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
            "finite": finite.astype(jnp.float32),
        }
        return new, metrics

    return train_step


def make_diagnose(
    model: QMRA, config: Any
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """Makes a function that computes each example's losses, to find those that are not finite.

    It repeats the forward pass of the step after a state: memory maps, BatchNorm statistics
    (synchronised, one bad example affects all that share its statistics) and micro-batches.

    Returns:
      (state, batch) -> (the same state, losses) under a mapped axis named `AXIS`. The losses are
      float32 `[b]` by output name, of all devices' examples and the same on every device.
    """
    forward = make_forward(model, config)
    parts = config.grad_accumulation

    def diagnose(state: TrainState, batch):
        variables = state.collections(state.params, state.batch_stats)
        options = loss_options(config.loss, state.step)
        numbers = example_numbers(batch)
        zeros = jnp.zeros(len(numbers) * jax.lax.axis_size(AXIS))
        losses = dict.fromkeys(model.targets, zeros)
        for k in range(parts):
            micro, examples = jax.tree.map(lambda x, k=k: x[k::parts], (batch, numbers))
            inputs = unpack(micro, model.remembers)
            outputs, _ = forward(variables, inputs, state.step, examples)
            terms = example_losses(outputs, make_targets(model, inputs), **options)
            losses = {name: losses[name].at[examples].set(terms[name]) for name in losses}
        return state, jax.lax.psum(losses, AXIS)

    return diagnose
