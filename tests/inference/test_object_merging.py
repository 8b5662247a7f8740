"""Merges against their formulas in NumPy."""

import numpy as np

from qmra_jax.inference.object_merging import MERGES

LOGITS = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
ALIVE = np.ones(2, bool)


def test_softmax_merges_with_a_background_logit_of_zero():
    e = np.exp(np.concatenate([np.zeros((1, 3, 4)), LOGITS]))
    np.testing.assert_allclose(MERGES["softmax"](LOGITS, ALIVE), e / e.sum(0), rtol=1e-5)


def test_soft_aggregation_merges_as_stm():
    p = 1 / (1 + np.exp(-LOGITS))
    p = np.clip(np.concatenate([np.prod(1 - p, axis=0)[None], p]), 1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    np.testing.assert_allclose(
        MERGES["soft_aggregation"](LOGITS, ALIVE), odds / odds.sum(0), rtol=1e-4
    )
