"""One weights file is enough to rebuild its model."""

import json
from typing import Any

import jax
import ml_collections
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import qmra_jax
from qmra_jax import weights
from qmra_jax.errors import InputError
from tests.support.tiny import TINY, assert_same_tree


@pytest.fixture
def variables(tiny_variables):
    return tiny_variables


def test_a_file_rebuilds_module_variables_and_config(variables, tmp_path):
    path = tmp_path / "new" / "model.safetensors"
    config = ml_collections.ConfigDict(TINY)
    qmra_jax.save(path, variables, config)
    module, loaded, loaded_config = qmra_jax.load(path)
    assert module == qmra_jax.build_model(TINY)
    assert loaded_config == config
    assert_same_tree(loaded, variables)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_takes_half_the_space_and_loads_as_float32(variables, tmp_path, dtype):
    path, full = tmp_path / "half.safetensors", tmp_path / "full.safetensors"
    weights.save(path, variables, TINY, dtype=dtype)
    weights.save(full, variables, TINY)
    assert path.stat().st_size < 0.51 * full.stat().st_size
    kept = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    rounded = jax.tree.map(lambda a: a.astype(kept).astype(np.float32), variables)
    assert_same_tree(weights.load(path)[1], rounded)


def test_pytorch_loads_the_file_strictly(variables, tmp_path):
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    from benchmarks.torch_qmra import QMRA

    path = tmp_path / "model.safetensors"
    weights.save(path, variables, TINY, dtype="bfloat16")
    QMRA(**TINY).load_state_dict(load_file(path), strict=True)


def test_metadata_is_kept_beside_the_config(variables, tmp_path):
    path = tmp_path / "model.safetensors"
    weights.save(path, variables, TINY, metadata={"command": "python train.py"})
    metadata = weights.read_metadata(path)
    assert metadata["command"] == "python train.py"
    assert json.loads(metadata["model"]) == TINY
    wrongs: list[dict[str, Any]] = [{"model": "mine"}, {"steps": 3}]
    for wrong in wrongs:
        with pytest.raises(InputError, match=f"'{next(iter(wrong))}': expected texts"):
            weights.save(tmp_path / "other.safetensors", variables, TINY, metadata=wrong)


def test_a_file_is_overwritten_only_when_asked(variables, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"model\.safetensors exists"):
        weights.save(path, variables, TINY)
    assert path.read_text() == "precious"
    weights.save(path, variables, TINY, overwrite=True)
    assert_same_tree(weights.load(path)[1], variables)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(variables, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_text("precious")

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        weights.save(path, variables, TINY, overwrite=True)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_saved_is_refused_before_anything_is_written(variables, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"name the file so"):
        weights.save(tmp_path / "model.npz", variables, TINY)
    with pytest.raises(InputError, match="variables: not the weights of this model"):
        weights.save(path, variables, TINY | {"key_dim": 16})
    with pytest.raises(InputError, match="dtype 'int8': expected one of float32, float16"):
        weights.save(path, variables, TINY, dtype="int8")
    large = jax.tree.map(lambda a: a + 1e5, variables)
    with pytest.raises(InputError, match="too large for float16; use bfloat16"):
        weights.save(path, large, TINY, dtype="float16")
    assert list(tmp_path.iterdir()) == []


def one_line(caught, path):
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_loading_what_is_absent_or_damaged_says_so(variables, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="no such weights file") as caught:
        weights.load(path)
    one_line(caught, path)
    weights.save(path, variables, TINY)
    content = path.read_bytes()
    for damaged in (b"", b"GIF89a, a picture", content[: len(content) // 2], content[:100]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not a safetensors file") as caught:
            weights.load(path)
        one_line(caught, path)
    with pytest.raises(InputError, match="is a folder: expected a"):
        weights.load(tmp_path)


def test_loading_a_file_of_no_model_says_what_to_do(variables, tmp_path):
    path = tmp_path / "bare.safetensors"
    safetensors.numpy.save_file(weights.to_torch(variables), path)
    with pytest.raises(InputError, match=r"no model config.*from_torch\(read_state") as caught:
        weights.load(path)
    one_line(caught, path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"model": json.dumps(TINY | {"backbone": "resnet50"})},
            "not the weights of this model: .*",
        ),
        ({"model": json.dumps(TINY | {"value_dim": 32})}, r"misshapen: .*expected .* more"),
        ({"model": json.dumps(TINY | {"colour": "red"})}, "colour"),
        ({"model": "{"}, "the model config in its metadata"),
        ({"model": json.dumps(TINY), "format_version": "9"}, "version '9', expected '1'"),
    ],
)
def test_loading_weights_of_another_model_says_so(variables, tmp_path, metadata, message):
    path = tmp_path / "model.safetensors"
    metadata = {"format": "qmra-jax", "format_version": "1", **metadata}
    safetensors.numpy.save_file(weights.to_torch(variables), path, metadata=metadata)
    with pytest.raises(InputError, match=message) as caught:
        weights.load(path)
    one_line(caught, path)
