import numpy as np
import pytest

from qmra_jax.training import losses

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
    loss, parts = losses.qmra_loss(outputs, {"box": box_map, "mask": MASK, "refined": MASK})
    expected = {
        "box": term(LOGITS, box_map),
        "mask": term(2 * LOGITS, MASK),
        "refined": term(-LOGITS, MASK),
    }
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(sum(expected.values()), rel=1e-5)


def test_a_sure_and_right_prediction_costs_nothing():
    sure = np.stack([-100 * MASK, 100 * MASK], axis=-1) + np.float32([50, -50])
    assert losses.cross_entropy(sure, MASK) == pytest.approx(np.zeros(2), abs=1e-6)
    assert losses.dice(sure, MASK) == pytest.approx(np.zeros(2), abs=1e-6)


def test_batch_jaccard_is_the_mean_of_each_example_s():
    predicted = np.zeros((3, 1, 4), np.float32)
    truth = np.zeros((3, 1, 4), np.float32)
    predicted[0, 0, :2], truth[0, 0, 1:4] = 1, 1  # 1 of 4
    predicted[1, 0, 0] = 1  # nothing there: 0
    # the third: empty and empty: 1
    logits = np.stack([1 - 2 * predicted, 2 * predicted - 1], axis=-1)
    assert float(losses.batch_jaccard(logits, truth)) == pytest.approx((0.25 + 0 + 1) / 3)


def test_a_bootstrapped_cross_entropy_is_of_each_example_s_hardest_pixels():
    every = -np.log(1 / (1 + np.exp((1 - 2 * MASK) * (LOGITS[..., 1] - LOGITS[..., 0]))))
    hardest = np.sort(every.reshape(2, -1), axis=1)[:, ::-1]
    found = losses.cross_entropy(LOGITS, MASK, share=0.3)
    np.testing.assert_allclose(found, hardest[:, :6].mean(axis=1), rtol=1e-5)  # of 20
    np.testing.assert_allclose(
        losses.cross_entropy(LOGITS, MASK, share=0.01), hardest[:, 0], rtol=1e-5
    )
    np.testing.assert_allclose(
        losses.cross_entropy(LOGITS, MASK, share=1.0),
        losses.cross_entropy(LOGITS, MASK),
        rtol=1e-5,
    )


def test_the_share_of_pixels_falls_linearly_between_two_steps():
    shares = [float(losses.bootstrap_share((10, 30, 0.2), step)) for step in (0, 10, 20, 30, 99)]
    assert shares == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])


def test_the_weight_of_dice_may_change():
    outputs = {"mask": LOGITS}
    truth = dict.fromkeys(outputs, MASK)
    with_dice, _ = losses.qmra_loss(outputs, truth, dice_weight=0.5)
    without, _ = losses.qmra_loss(outputs, truth, dice_weight=0.0)
    assert float(with_dice - without) == pytest.approx(0.5 * losses.dice(LOGITS, MASK).mean())


def test_an_example_s_losses_are_its_own():
    outputs = {"box": LOGITS, "mask": LOGITS, "refined": LOGITS}
    truth = {"box": 1 - MASK, "mask": MASK, "refined": MASK}
    both = losses.example_losses(outputs, truth)
    alone = losses.example_losses(*({n: x[1:] for n, x in d.items()} for d in (outputs, truth)))
    for name, part in both.items():
        assert part.shape == (2,)
        np.testing.assert_allclose(part[1:], alone[name], rtol=1e-6)
