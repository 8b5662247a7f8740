"""The loss of Eq. 10, per example, and the J by which a training batch is watched."""

from typing import Any

import jax
import jax.numpy as jnp

DICE_WEIGHT = 0.1  # "by experience", section "Cascaded Refinement and Prediction"


def cross_entropy(logits, target, share=None):
    """Cross-entropy of each example: the mean over its pixels, or over its hardest ones.

    Bootstrapped cross-entropy is what STCN (Cheng et al. 2021) and AOT (Yang et al. 2021) train
    with: the mean over the pixels of the largest loss alone. Taken within an example, so that an
    answer does not depend on which examples share a device.

    Args:
      logits: `[b, h, w, 2]`.
      target: `[b, h, w]` in [0, 1].
      share: of the pixels that count, in (0, 1], rounded down but at least one; None for all.

    Returns:
      float32 `[b]`.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    loss = -(target * log_p[..., 1] + (1 - target) * log_p[..., 0])
    loss = loss.reshape(len(loss), -1)
    if share is None:
        return loss.mean(axis=1)
    pixels = loss.shape[1]
    kept = jnp.maximum(jnp.floor(pixels * share), 1)
    hardest = jnp.sort(loss, axis=1, descending=True)
    return jnp.sum(jnp.where(jnp.arange(pixels) < kept, hardest, 0), axis=1) / kept


def bootstrap_share(bootstrap: tuple[int, int, float], step):
    """The share of pixels that count at a step: 1 till `start`, then linearly to `share` at `end`.

    Args:
      bootstrap: (start, end, share).
      step: steps done.
    """
    start, end, share = bootstrap
    return 1 - (1 - share) * jnp.clip((step - start) / (end - start), 0, 1)


def dice(logits, target):
    """1 - (2 sum pg + 1) / (sum p + sum g + 1) of each example; the smoothing of 1 is ours.

    `logits [b, h, w, 2]`, `target [b, h, w]` in [0, 1] -> float32 `[b]` in [0, 1].
    """
    p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[..., 1]
    overlap = jnp.sum(p * target, axis=(1, 2))
    total = jnp.sum(p, axis=(1, 2)) + jnp.sum(target, axis=(1, 2))
    return 1 - (2 * overlap + 1) / (total + 1)


def example_losses(outputs, targets, *, dice_weight=DICE_WEIGHT, share=None):
    """Eq. 10's terms of each example: cross-entropy + 0.1 dice of B_q, S_q and S_q^r.

    Args:
      outputs: by name ("box", "mask", "refined"): logits `[b, h, w, 2]`.
      targets: by the same names: B_l, the filled tight box of the query's mask, or S_l, that mask:
        `[b, h, w]` in {0, 1}; see `QMRA.targets`.
      dice_weight: the paper's 0.1.
      share: see `cross_entropy`.

    Returns:
      by the same names: float32 `[b]`.
    """
    parts = {}
    for name, logits in outputs.items():
        truth = targets[name].astype(jnp.float32)
        parts[name] = cross_entropy(logits, truth, share) + dice_weight * dice(logits, truth)
    return parts


def qmra_loss(outputs, targets, *, dice_weight=DICE_WEIGHT, share=None):
    """Eq. 10: the sum of `example_losses`' terms, each the mean over its examples.

    Returns:
      the loss, a float32 scalar, and its parts by name: scalars.
    """
    parts = example_losses(outputs, targets, dice_weight=dice_weight, share=share)
    parts = {name: part.mean() for name, part in parts.items()}
    return sum(parts.values()), parts


def loss_options(config: Any, step) -> dict[str, Any]:
    """The keyword arguments of `qmra_loss` that a config asks for at a step.

    Args:
      config: `config.loss`.
      step: steps done.
    """
    share = bootstrap_share(tuple(config.bootstrap), step) if config.bootstrap else None
    return {"dice_weight": config.dice_weight, "share": share}


def batch_jaccard(logits, target):
    """Mean J over a batch: `logits [b, h, w, 2]`, `target [b, h, w]` in {0, 1} -> scalar in [0, 1].

    1 where prediction and target are both empty.
    """
    predicted = logits[..., 1] > logits[..., 0]
    target = target > 0
    intersection = jnp.sum(predicted & target, axis=(1, 2))
    union = jnp.sum(predicted | target, axis=(1, 2))
    return jnp.mean(jnp.where(union > 0, intersection / jnp.maximum(union, 1), 1.0))
