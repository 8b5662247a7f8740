"""What of stage 1's box map B_q stage 2 is told, and a stored frame's map is: M_q (Eq. 3).

A prior is a pure function of the foreground probability of B_q

    prior(probability [b, h, w, 1]) -> M_q [b, h, w, 1] in [0, 1]

with an entry in `PRIORS`, which makes it a value of `config.model.prior`.
"""

from collections.abc import Callable

import jax

from qmra_jax import boxes


def foreground(logits):
    """Foreground probability: logits `[..., 2]` -> `[..., 1]` in [0, 1]."""
    return jax.nn.softmax(logits, axis=-1)[..., 1:]


def soft_prior(probability):
    """M_q = the foreground probability of B_q itself."""
    return probability


def binary_prior(probability):
    """M_q = 1 where B_q is more likely than not."""
    return (probability > 0.5).astype(probability.dtype)


def odds_prior(probability):
    """M_q = what STM remembers: `soft_aggregation` of a single object, whose odds it squares.

    With the log-odds l of the foreground, merged with the background's -l: sigmoid(2 l).
    """
    seen, unseen = probability**2, (1 - probability) ** 2
    return seen / (seen + unseen)


def rectified_prior(probability):
    """M_q = the filled tight box of the binary map, as the memory's first map is one."""
    height, width = probability.shape[1:3]
    box = boxes.map_to_box(probability[..., 0])
    return boxes.box_to_map(box, height, width)[..., None].astype(probability.dtype)


PRIORS: dict[str, Callable] = {
    "soft": soft_prior,
    "binary": binary_prior,
    "odds": odds_prior,
    "rectified": rectified_prior,
}
