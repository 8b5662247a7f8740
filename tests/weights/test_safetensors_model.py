"""A weights file rebuilds its model."""

import json

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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_a_file_rebuilds_module_variables_and_config(variables, tmp_path):
    path = tmp_path / "new" / "model.safetensors"
    config = ml_collections.ConfigDict(TINY)
    qmra_jax.save(path, variables, config)
    module, loaded, loaded_config = qmra_jax.load(path)
    assert module == qmra_jax.build_model(TINY)
    assert loaded_config == config
    assert_same_tree(loaded, variables)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_halves_the_file_and_loads_as_float32(variables, tmp_path, path, dtype):
    weights.save(path, variables, TINY, dtype=np.dtype(dtype).name)
    weights.save(tmp_path / "full.safetensors", variables, TINY)
    assert path.stat().st_size < 0.51 * (tmp_path / "full.safetensors").stat().st_size
    rounded = jax.tree.map(lambda a: a.astype(dtype).astype(np.float32), variables)
    assert_same_tree(weights.load(path)[1], rounded)


def test_pytorch_loads_the_file_strictly(variables, path):
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    from benchmarks.torch_qmra import QMRA

    weights.save(path, variables, TINY, dtype="bfloat16")
    QMRA(**TINY).load_state_dict(load_file(path), strict=True)


def test_metadata_is_stored_in_addition_to_the_config(variables, path):
    weights.save(path, variables, TINY, metadata={"command": "python train.py"})
    metadata = weights.read_metadata(path)
    assert metadata["command"] == "python train.py"
    assert json.loads(metadata["model"]) == TINY


def test_a_file_is_only_overwritten_on_request(variables, path):
    path.write_text("precious")
    with pytest.raises(InputError, match=r"model\.safetensors exists"):
        weights.save(path, variables, TINY)
    assert path.read_text() == "precious"
    weights.save(path, variables, TINY, overwrite=True)
    assert_same_tree(weights.load(path)[1], variables)


def test_a_failed_write_leaves_the_old_file_and_no_other(variables, path, monkeypatch):
    path.write_text("precious")

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        weights.save(path, variables, TINY, overwrite=True)
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"path": "model.npz"}, r"model\.npz"),
        ({"config": TINY | {"key_dim": 16}}, r"variables: .*qma1"),
        ({"dtype": "int8"}, "dtype 'int8'.*float16"),
        ({"dtype": "float16", "scale": 1e8}, "reaches .* float16"),
        ({"frozen_dtype": "int8"}, "frozen_dtype 'int8'"),
        ({"metadata": {"model": "mine"}}, "'model'"),
        ({"metadata": {"steps": 3}}, "'steps'"),
    ],
)
def test_invalid_arguments_are_rejected_before_writing(variables, tmp_path, changes, named):
    options = {"path": "model.safetensors", "config": TINY, "scale": 1, **changes}
    scaled = jax.tree.map(lambda a: a * np.float32(options["scale"]), variables)
    path, config = tmp_path / options.pop("path"), options.pop("config")
    options.pop("scale")
    with pytest.raises(InputError, match=named):
        weights.save(path, scaled, config, **options)
    assert list(tmp_path.iterdir()) == []


def load_error(path):
    """The one-line message with which `load` rejects the file."""
    with pytest.raises(InputError) as caught:
        weights.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_missing_and_damaged_files_are_rejected(variables, path):
    load_error(path)
    load_error(path.parent)
    weights.save(path, variables, TINY)
    content = path.read_bytes()
    for damaged in (b"", b"GIF89a, a picture", content[: len(content) // 2], content[:100]):
        path.write_bytes(damaged)
        load_error(path)


def test_a_file_without_a_model_is_rejected_with_what_to_do(variables, path):
    safetensors.numpy.save_file(weights.to_torch(variables), path)
    assert "from_torch(read_state(path), config)" in load_error(path)


@pytest.mark.parametrize(
    ("changes", "metadata", "named"),
    [
        ({"backbone": "resnet50"}, {}, "layer1"),
        ({"value_dim": 32}, {}, "misshapen: box_decoder"),
        ({"colour": "red"}, {}, "colour"),
        ({}, {"model": "{"}, "model config"),
        ({}, {"format_version": "9"}, "'9', expected '1'"),
    ],
)
def test_weights_of_another_model_are_rejected(variables, path, changes, metadata, named):
    stored = {"format": "qmra-jax", "format_version": "1", "model": json.dumps(TINY | changes)}
    safetensors.numpy.save_file(weights.to_torch(variables), path, metadata=stored | metadata)
    assert named in load_error(path)
