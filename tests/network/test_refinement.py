import jax
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.refinement import CRM, REFINERS, coordinates, pool16

RNG = np.random.default_rng(0)
STAGE1, STAGE2 = RNG.standard_normal((2, 1, 2, 3, 4)).astype(np.float32)
BOX, MASK = RNG.uniform(size=(2, 1, 32, 48, 1)).astype(np.float32)


def test_coordinates_run_from_minus_one_to_one_rows_first():
    i, j = np.moveaxis(np.asarray(coordinates(3, 5))[0], -1, 0)
    assert i.tolist() == [[-1] * 5, [0] * 5, [1] * 5]
    assert j.tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3


def test_predictions_are_averaged_over_16_by_16_pixels():
    pooled = pool16(BOX)
    assert pooled.shape == (1, 2, 3, 1)
    np.testing.assert_allclose(pooled[0, 1, 2, 0], BOX[0, 16:, 32:, 0].mean(), rtol=1e-5)


def by_the_figure(params, x):
    """Figure 4: coordinates, then the box, then the mask are merged in."""
    ij = np.asarray(coordinates(2, 3))
    for name, extra in (("coord_conv", ij), ("box_conv", pool16(BOX)), ("mask_conv", pool16(MASK))):
        x = np.concatenate([x, extra], axis=-1)
        x = np.maximum(x @ params[name]["kernel"][0, 0] + params[name]["bias"], 0)
    return x


@pytest.mark.parametrize(("features", "x"), [("stage2", STAGE2), ("both", STAGE1 + STAGE2)])
def test_crm_merges_coordinates_box_and_mask_in_turn(features, x):
    layer = CRM(features)
    out, variables = layer.init_with_output(jax.random.key(0), STAGE1, STAGE2, BOX, MASK)
    assert out.shape == STAGE2.shape
    np.testing.assert_allclose(out, by_the_figure(variables["params"], x), atol=1e-5)


def test_unknown_features_are_refused():
    with pytest.raises(InputError, match="stage2 or both"):
        CRM("stage3").init(jax.random.key(0), STAGE1, STAGE2, BOX, MASK)


def test_without_coordinates_only_the_two_predictions_are_merged_in():
    layer = REFINERS["crm_no_coord"]()
    variables = layer.init(jax.random.key(0), STAGE1, STAGE2, BOX, MASK)
    assert set(variables["params"]) == {"box_conv", "mask_conv"}
    whole = CRM()
    params = whole.init(jax.random.key(0), STAGE1, STAGE2, BOX, MASK)["params"]
    identity = np.zeros((1, 1, 6, 4), np.float32)
    identity[0, 0, :4] = np.eye(4)
    blind = {**variables["params"], "coord_conv": {**params["coord_conv"], "kernel": identity}}
    positive = np.abs(STAGE2)  # which the ReLU behind coord_conv lets pass
    expected = whole.apply({"params": blind}, STAGE1, positive, BOX, MASK)
    found = layer.apply(variables, STAGE1, positive, BOX, MASK)
    np.testing.assert_allclose(found, expected, atol=1e-5)
