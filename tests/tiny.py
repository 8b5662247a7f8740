"""A network and pictures small enough for a test."""

import numpy as np
from flax import traverse_util

TINY = {"backbone": "resnet18", "key_dim": 8, "value_dim": 16, "decoder_dim": 8}


def disc(size, centre, radius):
    """A boolean disc of `radius` about `centre` (x, y), in a frame of `size` (height, width)."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def assert_same_tree(found, expected):
    """The same names, the same float32 numbers."""
    found, expected = traverse_util.flatten_dict(found), traverse_util.flatten_dict(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], array, err_msg="/".join(path))
