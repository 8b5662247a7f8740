"""A mask's targets: one if it is binary, else its instances; ambiguous masks are refused."""

import numpy as np
import pytest

from data_pipeline.datasets.targets import instance_masks
from qmra_jax.errors import InputError
from tests.support.datasets import square


@pytest.mark.parametrize("value", [1, 255], ids=["0/1", "0/255"])
def test_a_binary_mask_is_one_target(value):
    (target,) = instance_masks(square(value), "m.png").values()
    np.testing.assert_array_equal(target, square(1))


def test_grey_edges_are_cut_at_128():
    mask = square(255)
    mask[7, 10:22], mask[20, 10:22] = 60, 190
    (target,) = instance_masks(mask, "m.png").values()
    assert target[7].sum() == 0
    assert target[20].sum() == 12


def test_instances_are_separate_targets_and_void_and_specks_are_none():
    labels = np.zeros((100, 100), np.uint8)
    labels[10:40, 10:40], labels[50:90, 50:90], labels[0, 0] = 1, 2, 3
    labels[40:42, 10:40] = 255
    masks = instance_masks(labels, "m.png")
    assert sorted(masks) == [1, 2]
    np.testing.assert_array_equal(masks[2], labels == 2)


def test_a_lone_speck_is_a_target_and_an_empty_mask_has_none():
    labels = np.zeros((100, 100), np.uint8)
    assert instance_masks(labels, "m.png") == {}
    labels[5, 5] = 4
    assert list(instance_masks(labels, "m.png")) == [4]


def test_an_ambiguous_mask_is_refused():
    ring = square(255)
    ring[12:16, 12:16] = 4  # an id inside more of void than itself
    with pytest.raises(InputError, match=r"m\.png holds ids but more of 255"):
        instance_masks(ring, "m.png")
    with pytest.raises(InputError, match=r"m\.png .*128 to 254"):
        instance_masks(np.where(square(1), 9, 0).astype(np.uint8) + square(160) // 2 * 2, "m.png")
