"""A tiny network and helpers for tests."""

import json

import jax
import numpy as np
from flax import traverse_util

TINY = {"backbone": "resnet18", "key_dim": 8, "value_dim": 16, "decoder_dim": 8}


def disc(size, centre, radius):
    """Boolean mask of a disc with `centre` (x, y) in a frame of `size` (height, width)."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def random_variables(shapes, seed=0):
    """Variables of these shapes at a sensible scale, without compiling an initialiser."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if name == "kernel" else 0.1
        return (spread * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map_with_path(fill, shapes)


def assert_same_tree(found, expected):
    """Asserts equal names and equal float32 arrays."""
    found, expected = traverse_util.flatten_dict(found), traverse_util.flatten_dict(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], array, err_msg="/".join(path))


def metric_lines(workdir, kind="loss"):
    """The lines of a run's metrics.jsonl that contain this metric."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if kind in line]


def saved_arrays(workdir):
    """All arrays of a run's newest checkpoint by path, with the optimiser state."""
    import orbax.checkpoint as ocp

    steps = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal()]
    newest = (workdir / "checkpoints" / str(max(steps))).absolute()
    arrays = {}
    with ocp.PyTreeCheckpointer() as checkpointer:
        for item in ("model", "training"):
            leaves = jax.tree_util.tree_leaves_with_path(checkpointer.restore(newest / item))
            for path, leaf in leaves:
                arrays[f"{item}/{jax.tree_util.keystr(path, simple=True, separator='/')}"] = leaf
    return {name: np.asarray(array) for name, array in arrays.items()}


def assert_same_run(workdir, other):
    """Asserts bitwise equal newest checkpoints: step, parameters, optimiser state, averages."""
    found, expected = saved_arrays(workdir), saved_arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
