import jax
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.refinement import REFINERS, coordinates, pool16

RNG = np.random.default_rng(0)
STAGE1, STAGE2 = RNG.standard_normal((2, 1, 2, 3, 4)).astype(np.float32)
BOX, MASK = RNG.uniform(size=(2, 1, 32, 48, 1)).astype(np.float32)


def test_coordinates_run_from_minus_one_to_one_rows_first():
    i, j = np.moveaxis(np.asarray(coordinates(np.zeros((1, 3, 5, 4))))[0], -1, 0)
    assert i.tolist() == [[-1] * 5, [0] * 5, [1] * 5]
    assert j.tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3


def test_predictions_are_averaged_over_16_by_16_pixels():
    pooled = pool16(BOX)
    assert pooled.shape == (1, 2, 3, 1)
    np.testing.assert_allclose(pooled[0, 1, 2, 0], BOX[0, 16:, 32:, 0].mean(), rtol=1e-5)


ALL = {"coord_conv": coordinates(STAGE2), "box_conv": pool16(BOX), "mask_conv": pool16(MASK)}
WITHOUT = {name: ALL[name] for name in ("box_conv", "mask_conv")}


@pytest.mark.parametrize(("refiner", "merged_in"), [("crm", ALL), ("crm_no_coord", WITHOUT)])
@pytest.mark.parametrize(("features", "x"), [("stage2", STAGE2), ("both", STAGE1 + STAGE2)])
def test_crm_merges_coordinates_box_and_mask_in_turn(refiner, merged_in, features, x):
    layer = REFINERS[refiner](features)
    out, variables = layer.init_with_output(jax.random.key(0), STAGE1, STAGE2, BOX, MASK)
    params = variables["params"]
    assert set(params) == set(merged_in)
    for name, extra in merged_in.items():
        x = np.concatenate([x, extra], axis=-1)
        x = np.maximum(x @ params[name]["kernel"][0, 0] + params[name]["bias"], 0)
    np.testing.assert_allclose(out, x, atol=1e-5)


def test_unknown_features_are_rejected():
    with pytest.raises(InputError, match="'stage3'"):
        REFINERS["crm"]("stage3").init(jax.random.key(0), STAGE1, STAGE2, BOX, MASK)
