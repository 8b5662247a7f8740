"""The loss of Eq. 10, and the J by which a training batch is watched."""

import jax
import jax.numpy as jnp

DICE_WEIGHT = 0.1  # "by experience", section "Cascaded Refinement and Prediction"


def cross_entropy(logits, target):
    """Mean over batch and pixels. `logits [b, h, w, 2]`, `target [b, h, w]` in [0, 1] -> scalar."""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.mean(target * log_p[..., 1] + (1 - target) * log_p[..., 0])


def dice(logits, target):
    """1 - (2 sum pg + 1) / (sum p + sum g + 1) per example, averaged; the smoothing of 1 is ours.

    `logits [b, h, w, 2]`, `target [b, h, w]` in [0, 1] -> scalar in [0, 1].
    """
    p = jax.nn.softmax(logits, axis=-1)[..., 1]
    overlap = jnp.sum(p * target, axis=(1, 2))
    total = jnp.sum(p, axis=(1, 2)) + jnp.sum(target, axis=(1, 2))
    return jnp.mean(1 - (2 * overlap + 1) / (total + 1))


def qmra_loss(outputs, mask, box_map):
    """Eq. 10: the sum over B_q, S_q and S_q^r of cross-entropy + 0.1 dice.

    Args:
      outputs: "box", "mask", "refined": logits `[b, h, w, 2]`.
      mask: S_l, the query's mask `[b, h, w]` in {0, 1}.
      box_map: B_l, the filled tight box of that mask `[b, h, w]`.

    Returns:
      the loss, a float32 scalar, and its parts: {"box", "mask", "refined"} -> scalar.
    """
    target = {"box": box_map, "mask": mask, "refined": mask}
    parts = {}
    for name, logits in outputs.items():
        truth = target[name].astype(jnp.float32)
        parts[name] = cross_entropy(logits, truth) + DICE_WEIGHT * dice(logits, truth)
    return sum(parts.values()), parts


def batch_jaccard(logits, target):
    """Mean J over a batch: `logits [b, h, w, 2]`, `target [b, h, w]` in {0, 1} -> scalar in [0, 1].

    1 where prediction and target are both empty.
    """
    predicted = logits[..., 1] > logits[..., 0]
    target = target > 0
    intersection = jnp.sum(predicted & target, axis=(1, 2))
    union = jnp.sum(predicted | target, axis=(1, 2))
    return jnp.mean(jnp.where(union > 0, intersection / jnp.maximum(union, 1), 1.0))
