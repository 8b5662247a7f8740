import numpy as np
import pytest

from qmra_jax import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((2, 4, 5, 2)).astype(np.float32)
MASK = RNG.integers(0, 2, (2, 4, 5)).astype(np.float32)


def term(logits, target):
    """l of Eq. 10 in plain NumPy: cross-entropy + 0.1 dice."""
    p = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
    cross_entropy = -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))
    dice = [
        1 - (2 * (p[i] * target[i]).sum() + 1) / (p[i].sum() + target[i].sum() + 1)
        for i in range(len(p))
    ]
    return cross_entropy + 0.1 * np.mean(dice)


def test_the_loss_is_equation_10():
    outputs = {"box": LOGITS, "mask": 2 * LOGITS, "refined": -LOGITS}
    box_map = 1 - MASK
    loss, parts = losses.qmra_loss(outputs, MASK, box_map)
    expected = {
        "box": term(LOGITS, box_map),
        "mask": term(2 * LOGITS, MASK),
        "refined": term(-LOGITS, MASK),
    }
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(sum(expected.values()), rel=1e-5)


def test_a_sure_and_right_prediction_costs_nothing():
    sure = np.stack([-100 * MASK, 100 * MASK], axis=-1) + np.float32([50, -50])
    assert float(losses.cross_entropy(sure, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(losses.dice(sure, MASK)) == pytest.approx(0, abs=1e-6)


def test_batch_jaccard_is_the_mean_of_each_example_s():
    predicted = np.zeros((3, 1, 4), np.float32)
    truth = np.zeros((3, 1, 4), np.float32)
    predicted[0, 0, :2], truth[0, 0, 1:4] = 1, 1  # 1 of 4
    predicted[1, 0, 0] = 1  # nothing there: 0
    # the third: empty and empty: 1
    logits = np.stack([1 - 2 * predicted, 2 * predicted - 1], axis=-1)
    assert float(losses.batch_jaccard(logits, truth)) == pytest.approx((0.25 + 0 + 1) / 3)
