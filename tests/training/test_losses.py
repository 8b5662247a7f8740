import numpy as np
import pytest

from qmra_jax.training import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((2, 4, 5, 2)).astype(np.float32)
MASK = RNG.integers(0, 2, (2, 4, 5)).astype(np.float32)


def term(logits, target, dice_weight=0.1):
    """One output's term of Eq. 10 in plain NumPy, `[b]`: cross-entropy + 0.1 dice."""
    p = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
    cross_entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean(axis=(1, 2))
    overlap, total = (p * target).sum(axis=(1, 2)), (p + target).sum(axis=(1, 2))
    return cross_entropy + dice_weight * (1 - (2 * overlap + 1) / (total + 1))


@pytest.mark.parametrize("options", [{}, {"dice_weight": 0.5}])
def test_loss_is_equation_10(options):
    outputs = {"box": LOGITS, "mask": 2 * LOGITS, "refined": -LOGITS}
    targets = {"box": 1 - MASK, "mask": MASK, "refined": MASK}
    expected = {name: term(outputs[name], targets[name], **options) for name in outputs}
    terms = losses.example_losses(outputs, targets, **options)
    for name in outputs:
        np.testing.assert_allclose(terms[name], expected[name], rtol=1e-5)
    loss, means = losses.qmra_loss(outputs, targets, **options)
    assert {k: float(v) for k, v in means.items()} == pytest.approx(
        {k: v.mean() for k, v in expected.items()}, rel=1e-5
    )
    assert float(loss) == pytest.approx(sum(v.mean() for v in expected.values()), rel=1e-5)


def test_confident_correct_prediction_has_no_loss():
    confident = np.stack([-100 * MASK, 100 * MASK], axis=-1) + np.float32([50, -50])
    assert losses.cross_entropy(confident, MASK) == pytest.approx(np.zeros(2), abs=1e-6)
    assert losses.dice(confident, MASK) == pytest.approx(np.zeros(2), abs=1e-6)


def test_batch_jaccard_is_the_mean_over_examples():
    predicted = np.zeros((3, 1, 4), np.float32)
    truth = np.zeros((3, 1, 4), np.float32)
    predicted[0, 0, :2], truth[0, 0, 1:4] = 1, 1  # 1 of 4
    predicted[1, 0, 0] = 1  # nothing there: 0
    # the third: both empty: 1
    logits = np.stack([1 - 2 * predicted, 2 * predicted - 1], axis=-1)
    assert float(losses.batch_jaccard(logits, truth)) == pytest.approx((0.25 + 0 + 1) / 3)


def test_bootstrapped_cross_entropy_is_the_mean_over_the_hardest_pixels_of_an_example():
    pixels = -np.log(1 / (1 + np.exp((1 - 2 * MASK) * (LOGITS[..., 1] - LOGITS[..., 0]))))
    hardest = np.sort(pixels.reshape(2, -1), axis=1)[:, ::-1]
    for share, count in ((0.3, 6), (0.01, 1), (1.0, 20)):
        actual = losses.cross_entropy(LOGITS, MASK, share=share)
        np.testing.assert_allclose(actual, hardest[:, :count].mean(axis=1), rtol=1e-5)


def test_share_of_pixels_falls_linearly_between_two_steps():
    shares = [float(losses.bootstrap_share((10, 30, 0.2), step)) for step in (0, 10, 20, 30, 99)]
    assert shares == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
