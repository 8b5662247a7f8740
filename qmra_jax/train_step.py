"""One step of training, as one device sees it. The only file with collectives."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from qmra_jax import boxes
from qmra_jax.losses import batch_jaccard, qmra_loss
from qmra_jax.model import QMRA
from qmra_jax.train_state import TrainState

AXIS = "data"


def unpack(batch: dict[str, Any]) -> dict[str, jax.Array]:
    """A batch of triplets as the network takes it.

    Args:
      batch: images uint8 `[b, 3, h, w, 3]`, masks uint8 `[b, 3, h, w]`, boxes int32 `[b, 3, 4]`:
        two memory frames, then the query.

    Returns:
      query, memory_images, memory_maps (see `QMRA.__call__`), and the labels of Eq. 10: mask and
      box_map float32 `[b, h, w]`.
    """
    images = batch["images"].astype(jnp.float32) / 255
    maps = boxes.box_to_map(batch["boxes"], *images.shape[2:4])
    return {
        "query": images[:, 2],
        "memory_images": images[:, :2],
        "memory_maps": maps[:, :2, ..., None],
        "mask": batch["masks"][:, 2].astype(jnp.float32),
        "box_map": maps[:, 2],
    }


def forward(model: QMRA, params, batch_stats, inputs: dict[str, jax.Array]) -> Any:
    """The model's three logits for what `unpack` gave."""
    return model.apply(
        {"params": params, "batch_stats": batch_stats},
        inputs["query"],
        inputs["memory_images"],
        inputs["memory_maps"],
    )


def make_train_step(model: QMRA, optimizer: optax.GradientTransformation, schedule):
    """The step: (state, batch) -> (state, metrics), under a mapped axis named `AXIS`.

    Args:
      model: the network.
      optimizer: what turns gradients into updates.
      schedule: the learning rate, for the metrics.

    Returns:
      a function of a replicated `TrainState` and this device's share of a batch of triplets. Its
      metrics are float32 scalars, the same on every device.
    """

    def train_step(state: TrainState, batch) -> tuple[TrainState, dict[str, jax.Array]]:
        inputs = unpack(batch)

        def loss_fn(params):
            outputs = forward(model, params, state.batch_stats, inputs)
            loss, parts = qmra_loss(outputs, inputs["mask"], inputs["box_map"])
            metrics = {f"loss_{name}": part for name, part in parts.items()}
            for name, logits in outputs.items():
                truth = inputs["box_map" if name == "box" else "mask"]
                metrics[f"J_{name}"] = batch_jaccard(logits, truth)
            return loss, metrics

        # Each device differentiates its own copy, so that no wrapper sums the gradients before the
        # mean below does: jit(shard_map) would, for parameters that it knows to be replicated.
        params = jax.tree.map(lambda x: jax.lax.pcast(x, AXIS, to="varying"), state.params)
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        loss, metrics, grads = jax.lax.pmean((loss, metrics, grads), AXIS)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics |= {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
        )
        return state, metrics

    return train_step


def make_predict(model: QMRA):
    """(state, batch) -> foreground probabilities of the queries, for pictures.

    Returns:
      a jitted function: `TrainState`, triplets -> {"box", "mask", "refined"}: `[b, h, w]`.
    """

    @jax.jit
    def predict(state: TrainState, batch):
        outputs = forward(model, state.params, state.batch_stats, unpack(batch))
        return {name: jax.nn.softmax(logits)[..., 1] for name, logits in outputs.items()}

    return predict
