"""M_q (Eq. 3): how stage 1's box map B_q enters stage 2's query and the memory.

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
    """M_q = 1 where B_q is above one half, else 0."""
    return (probability > 0.5).astype(probability.dtype)


def odds_prior(probability):
    """M_q = STM's `soft_aggregation` of a single object, which squares the odds.

    Softmax of the foreground's log-odds l and the background's -l: sigmoid(2 l).
    """
    for_it, against = probability**2, (1 - probability) ** 2
    return for_it / (for_it + against)


def rectified_prior(probability):
    """M_q = the filled tight box of the binary map, like the first frame's map."""
    height, width = probability.shape[1:3]
    box = boxes.map_to_box(probability[..., 0])
    return boxes.box_to_map(box, height, width)[..., None].astype(probability.dtype)


PRIORS: dict[str, Callable] = {
    "soft": soft_prior,
    "binary": binary_prior,
    "odds": odds_prior,
    "rectified": rectified_prior,
}
