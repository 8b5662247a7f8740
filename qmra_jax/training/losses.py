"""The training loss (Eq. 10), per example, and the J score logged for a training batch."""

from typing import Any

import jax
import jax.numpy as jnp

DICE_WEIGHT = 0.1  # the paper, section "Cascaded Refinement and Prediction"


def cross_entropy(logits, target, share=None):
    """Cross-entropy of each example: the mean over its pixels, or over its hardest pixels.

    The latter is the bootstrapped cross-entropy of STCN (Cheng et al. 2021) and AOT (Yang et al.
    2021). Pixels are selected within an example, so that the result does not depend on which
    examples share a device.

    Args:
      logits: `[b, h, w, 2]`.
      target: `[b, h, w]` in [0, 1].
      share: fraction of the pixels to average over, in (0, 1], rounded down to at least one pixel;
        None for all.

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
    """Fraction of pixels in the loss at `step`: 1 until `start`, then linear to `share` at `end`.

    Args:
      bootstrap: (start, end, share).
      step: number of steps done.
    """
    start, end, share = bootstrap
    return 1 - (1 - share) * jnp.clip((step - start) / (end - start), 0, 1)


def dice(logits, target):
    """Dice loss of each example, 1 - (2 sum pg + 1) / (sum p + sum g + 1); the 1s are our choice.

    `logits [b, h, w, 2]`, `target [b, h, w]` in [0, 1] -> float32 `[b]` in [0, 1].
    """
    p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[..., 1]
    overlap = jnp.sum(p * target, axis=(1, 2))
    total = jnp.sum(p, axis=(1, 2)) + jnp.sum(target, axis=(1, 2))
    return 1 - (2 * overlap + 1) / (total + 1)


def example_losses(outputs, targets, *, dice_weight=DICE_WEIGHT, share=None):
    """The terms of Eq. 10 for each example: cross-entropy + 0.1 dice of B_q, S_q and S_q^r.

    Args:
      outputs: logits `[b, h, w, 2]` by name ("box", "mask", "refined").
      targets: by the same names, `[b, h, w]` in {0, 1}: the query's mask S_l, or its filled
        bounding box B_l; see `QMRA.targets`.
      dice_weight: weight of the dice loss; 0.1 in the paper.
      share: see `cross_entropy`.

    Returns:
      float32 `[b]` by the same names.
    """
    terms = {}
    for name, logits in outputs.items():
        target = targets[name].astype(jnp.float32)
        terms[name] = cross_entropy(logits, target, share) + dice_weight * dice(logits, target)
    return terms


def qmra_loss(outputs, targets, *, dice_weight=DICE_WEIGHT, share=None):
    """Eq. 10: the sum over the outputs of `example_losses`, averaged over the examples.

    Returns:
      The loss, a float32 scalar, and its terms by output name.
    """
    terms = example_losses(outputs, targets, dice_weight=dice_weight, share=share)
    terms = {name: term.mean() for name, term in terms.items()}
    return sum(terms.values()), terms


def loss_options(config: Any, step) -> dict[str, Any]:
    """Keyword arguments of `qmra_loss` from `config.loss`, after `step` steps."""
    share = bootstrap_share(tuple(config.bootstrap), step) if config.bootstrap else None
    return {"dice_weight": config.dice_weight, "share": share}


def batch_jaccard(logits, target):
    """Mean J over a batch: `logits [b, h, w, 2]`, `target [b, h, w]` in {0, 1} -> scalar in [0, 1].

    J is 1 where prediction and target are both empty.
    """
    predicted = logits[..., 1] > logits[..., 0]
    target = target > 0
    intersection = jnp.sum(predicted & target, axis=(1, 2))
    union = jnp.sum(predicted | target, axis=(1, 2))
    return jnp.mean(jnp.where(union > 0, intersection / jnp.maximum(union, 1), 1.0))
