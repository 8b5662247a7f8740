"""One step of training, as one device sees it: the collectives, but for BatchNorm's, are here."""

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
    """A batch of triplets as the network takes it.

    Args:
      batch: images uint8 `[b, 3, h, w, 3]`, masks uint8 `[b, 3, h, w]`, boxes int32 `[b, 3, 4]`:
        two memory frames, then the query.
      remembers: what the memory frames' maps show, see `QMRA.remembers`: "box" or "mask".

    Returns:
      query, memory_images, memory_maps (see `QMRA.__call__`), and the labels of Eq. 10: mask (S_l)
      and box (B_l) float32 `[b, h, w]`.
    """
    images = batch["images"].astype(jnp.float32) / 255
    masks = batch["masks"].astype(jnp.float32)
    maps = boxes.box_to_map(batch["boxes"], *images.shape[2:4])
    remembered = {"box": maps, "mask": masks}[remembers]
    return {
        "query": images[:, 2],
        "memory_images": images[:, :2],
        "memory_maps": remembered[:, :2, ..., None],
        "mask": masks[:, 2],
        "box": maps[:, 2],
    }


def make_targets(model: QMRA, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """What each output is to be, `[b, h, w]` by name, of what `unpack` gave."""
    return {name: inputs[kind] for name, kind in model.targets.items()}


def example_numbers(batch) -> jax.Array:
    """int32 `[b]`: the numbers of a device's examples in the batch of all devices."""
    local = len(batch["images"])
    return jax.lax.axis_index(AXIS) * local + jnp.arange(local)


def make_forward(model: QMRA, config: Any) -> Callable:
    """(variables, inputs, step, examples) -> the outputs' logits and the new batch_stats.

    `inputs` is what `unpack` gave, `step` the steps done, `examples` int32 `[b]` the numbers of the
    batch's examples in that of all devices.
    """
    if model.batch_norm == "sync":
        model = model.clone(stats_axis=AXIS)

    def forward(variables, inputs, step, examples):
        args: tuple[Any, ...] = tuple(
            inputs[name] for name in ("query", "memory_images", "memory_maps")
        )
        kwargs: dict[str, Any] = {}
        predicted = draw_predicted(config, step, examples)
        if predicted is not None:
            args = (*args, predicted)
            kwargs = {"method": "with_predicted_maps", "gradient": config.predicted_gradient}
        if model.batch_norm == "frozen":
            return model.apply(variables, *args, **kwargs), variables["batch_stats"]
        outputs, changed = model.apply(variables, *args, **kwargs, mutable=["batch_stats"])
        return outputs, changed["batch_stats"]

    return forward


def make_gradient(model: QMRA, config: Any) -> Callable:
    """(params, state, batch) -> gradients, new batch_stats and metrics of one device.

    The parameters are those of the state, as this device's own copy.

    With `config.grad_accumulation` n, the batch goes through in n micro-batches, one after another.
    Micro-batch k is the examples whose number leaves k when divided by n, so that over all devices
    it is the same for any number of them: its synchronised BatchNorm statistics are too, which are
    a micro-batch's.
    """
    forward = make_forward(model, config)
    parts = config.grad_accumulation

    def loss_fn(params, batch_stats, state, batch, examples):
        inputs = unpack(batch, model.remembers)
        targets = make_targets(model, inputs)
        variables = state.collections(params, batch_stats)
        step = state.step
        outputs, batch_stats = forward(variables, inputs, step, examples)
        options = loss_options(config.loss, step)
        loss, terms = qmra_loss(outputs, targets, **options)
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
        zeros = jax.tree.map(lambda x: 0 * x, params)  # as varying over the devices as they are
        (total, batch_stats), metrics = jax.lax.scan(
            micro,
            (zeros, state.batch_stats),
            (batch, examples),
            # XLA's CPU loops run convolutions at a fortieth of their speed. Written out they keep
            # it, but memory is then not saved.
            unroll=jax.default_backend() == "cpu",
        )
        grads = jax.tree.map(lambda x: x / parts, total)
        return grads, batch_stats, jax.tree.map(lambda x: x.mean(axis=0), metrics)

    return gradient


def make_train_step(
    model: QMRA, optimizer: optax.GradientTransformation, schedule: optax.Schedule, config: Any
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """The step: (state, batch) -> (state, metrics), under a mapped axis named `AXIS`.

    A step whose loss or gradient is not finite changes nothing but `TrainState.halted`, and neither
    does any after it: what the loop finds, however late, is the state of the last good step.

    Args:
      model: the network.
      optimizer: what turns gradients into updates.
      schedule: the learning rate, for the metrics.
      config: of the run: seed, grad_accumulation, memory_maps, predicted_share,
        predicted_gradient, loss, ema_decay.

    Returns:
      a function of a replicated `TrainState` and this device's share of a batch of triplets. Its
      metrics are float32 scalars, the same on every device: loss, loss_NAME and J_NAME of each
      output, grad_norm (before clipping), update_norm, param_norm (after the step), learning_rate
      and finite (1, or 0 for a step that changed nothing). A batch may have "stop", bool `[b]`,
      beside its triplets: the metric stop is 1 where any example of any device has it.
    """
    gradient = make_gradient(model, config)

    def train_step(state: TrainState, batch) -> tuple[TrainState, Metrics]:
        # Each device differentiates its own copy, so that no wrapper sums the gradients before the
        # mean below does: jit(shard_map) would, for parameters that it knows to be replicated.
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
        # The last tells of what a finite gradient can still do: too large a step.
        watched = (metrics["loss"], metrics["grad_norm"], optax.tree.norm((params, batch_stats)))
        finite = jnp.isfinite(jnp.stack(watched)).all() & ~state.halted
        frozen, old = state.frozen, state.replace(frozen=None, halted=~finite)
        new = TrainState(
            state.step + 1, params, batch_stats, opt_state, average, None, halted=~finite
        )
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old).replace(frozen=frozen)
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
    """Each example's losses in the step after a state, to name those that are not finite.

    All is as in that step: memory maps, BatchNorm's statistics (where these are synchronised one
    example spoils all that it is normalised with) and micro-batches.

    Args:
      model: the network.
      config: of the run, as `make_train_step`'s.

    Returns:
      (state, batch) -> (the same state, losses) under a mapped axis named `AXIS`. The losses are
      by the outputs' names: float32 `[b]` of all devices' examples, the same on every device.
    """
    forward = make_forward(model, config)
    parts = config.grad_accumulation

    def diagnose(state: TrainState, batch):
        variables = state.collections(state.params, state.batch_stats)
        options = loss_options(config.loss, state.step)
        numbers = example_numbers(batch)
        everyone = jnp.zeros(len(numbers) * jax.lax.axis_size(AXIS))
        losses = dict.fromkeys(model.targets, everyone)
        for k in range(parts):
            micro, examples = jax.tree.map(lambda x, k=k: x[k::parts], (batch, numbers))
            inputs = unpack(micro, model.remembers)
            outputs, _ = forward(variables, inputs, state.step, examples)
            found = example_losses(outputs, make_targets(model, inputs), **options)
            losses = {name: losses[name].at[examples].set(found[name]) for name in losses}
        return state, jax.lax.psum(losses, AXIS)

    return diagnose
