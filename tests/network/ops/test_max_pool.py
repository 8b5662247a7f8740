import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax.network.ops import max_pool

torch = pytest.importorskip("torch", reason="compared with PyTorch's max-pool")


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3)])
def test_pooling_and_both_gradients_are_pytorchs_with_ties(height, width):
    rng = np.random.default_rng(height)
    x = rng.integers(-1, 2, (2, height, width, 3)).astype(np.float32)
    twin = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    expected = torch.nn.functional.max_pool2d(twin, 3, 2, 1)
    y_bar = rng.standard_normal(expected.shape).astype(np.float32)
    expected.backward(torch.from_numpy(y_bar))

    x, y_bar = jnp.asarray(x), jnp.asarray(y_bar.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(
        max_pool.max_pool(x), expected.detach().numpy().transpose(0, 2, 3, 1)
    )
    for gradient in (max_pool.gradient, max_pool.gradient_by_places):
        np.testing.assert_allclose(
            jax.jit(gradient)(x, y_bar), twin.grad.numpy().transpose(0, 2, 3, 1), atol=1e-6
        )
