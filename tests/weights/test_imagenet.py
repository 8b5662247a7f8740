"""Encoders are initialised from an ImageNet ResNet."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import qmra_jax
from qmra_jax import weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.resnet import Encoder
from tests.support.tiny import TINY, assert_same_tree, random_variables


def network(backbone):
    return random_variables(variable_shapes(qmra_jax.build_model(TINY | {"backbone": backbone})))


def classifier(backbone):
    """A state dict like torchvision's: the encoder's names, layer4 and fc."""
    prefix = "query_encoder."
    rng = np.random.default_rng(1)
    resnet = {
        name.removeprefix(prefix): rng.uniform(0.5, 1, array.shape).astype(array.dtype)
        for name, array in weights.to_torch(network(backbone)).items()
        if name.startswith(prefix)
    }
    unused = {
        "layer4.0.conv1.weight": (512, 256, 3, 3),
        "fc.weight": (1000, 512),
        "fc.bias": (1000,),
    }
    return resnet | {name: np.zeros(shape, np.float32) for name, shape in unused.items()}


@pytest.fixture(scope="module")
def variables(tiny_variables):
    return tiny_variables


@pytest.fixture(scope="module")
def resnet18():
    return classifier("resnet18")


@pytest.fixture(scope="module")
def resnet18_file(resnet18, tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "resnet18.safetensors"
    safetensors.numpy.save_file(resnet18, path)
    return path


def test_both_encoders_are_replaced_and_other_modules_kept(variables, resnet18, resnet18_file):
    before = weights.to_torch(variables)
    after = weights.to_torch(weights.load_encoders(variables, resnet18_file))
    assert after.keys() == before.keys()
    for name, array in after.items():
        module, _, inner = name.partition(".")
        if name == "memory_encoder.conv1.weight":
            np.testing.assert_array_equal(array[:, :3], resnet18["conv1.weight"])
            assert array.shape == (64, 4, 7, 7)
            assert not array[:, 3].any()
        elif name.endswith("num_batches_tracked"):
            assert array == 0
        elif module in ("query_encoder", "memory_encoder"):
            np.testing.assert_array_equal(array, resnet18[inner], err_msg=name)
        else:
            np.testing.assert_array_equal(array, before[name], err_msg=name)
    for name, array in weights.to_torch(variables).items():  # not modified in place
        np.testing.assert_array_equal(array, before[name])


def test_the_maps_channel_may_be_random(variables, resnet18, resnet18_file):
    def map_channel(seed):
        loaded = weights.load_encoders(variables, resnet18_file, extra_channel="random", seed=seed)
        return np.asarray(loaded["params"]["memory_encoder"]["conv1"]["kernel"])[:, :, 3]

    first = map_channel(0)
    assert first.std() == pytest.approx(resnet18["conv1.weight"].std(), rel=0.1)
    np.testing.assert_array_equal(first, map_channel(0))
    assert (first != map_channel(1)).all()
    with pytest.raises(InputError, match=r"extra_channel 'ones'.*zeros, random"):
        weights.load_encoders(variables, resnet18_file, extra_channel="ones")


@pytest.mark.parametrize("kind", ["pth", "npz", "folder"])
def test_every_format_gives_the_same_weights(variables, resnet18, resnet18_file, tmp_path, kind):
    path = tmp_path / f"resnet18.{kind}"
    if kind == "pth":
        torch = pytest.importorskip("torch")
        torch.save({k: torch.from_numpy(v) for k, v in resnet18.items()}, path)
    elif kind == "npz":
        np.savez(path, **resnet18)
    else:
        path.mkdir()
        for name, array in resnet18.items():
            np.save(path / f"{name}.npy", array)
    loaded = weights.load_encoders(variables, path)
    assert_same_tree(loaded, weights.load_encoders(variables, resnet18_file))


def fold(resnet):
    """Folds each BatchNorm into its convolution."""
    folded = {}
    for name, kernel in resnet.items():
        if name.startswith(("layer4.", "fc.")) or kernel.ndim != 4:
            continue
        conv = name.removesuffix(".weight")
        norm = conv.replace("conv", "bn").replace("downsample.0", "downsample.1")
        scale, bias, mean, var = (
            resnet[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = scale / np.sqrt(var + 1e-5)
        folded[f"{conv}.weight"] = kernel * gain[:, None, None, None]
        folded[f"{conv}.bias"] = bias - mean * gain
    return folded


def test_folded_batch_norm_computes_the_same_features(variables, resnet18, tmp_path):
    rng = np.random.default_rng(2)
    state = {  # centred, so that activations stay small
        name: (rng.normal(0, 0.03, array.shape) if array.ndim == 4 else array).astype(array.dtype)
        for name, array in resnet18.items()
    }
    np.savez(tmp_path / "plain.npz", **state)
    np.savez(tmp_path / "folded.npz", **fold(state))
    image = rng.random((1, 32, 48, 3), np.float32)
    encode = jax.jit(Encoder("resnet18").apply)

    def features(name):
        loaded = weights.load_encoders(variables, tmp_path / name)
        return encode({kind: tree["query_encoder"] for kind, tree in loaded.items()}, image)

    plain, folded = features("plain.npz"), features("folded.npz")
    for level in ("r4", "r3", "r2"):
        expected = np.asarray(getattr(plain, level))
        assert expected.std() > 0.01
        np.testing.assert_allclose(getattr(folded, level), expected, atol=2e-5 * expected.max())


def test_another_network_is_rejected_by_name(variables, tmp_path):
    path = tmp_path / "resnet50.npz"
    np.savez(path, **classifier("resnet50"))
    named = r"resnet50\.npz \(a ResNet-50\).*layer1\.0\.conv1\.weight is \[64,64,1,1\]"
    with pytest.raises(InputError, match=named):
        weights.load_encoders(variables, path)
    weights.load_encoders(network("resnet50"), path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layer3.1.bn2.running_var": None}, r"1 missing: layer3\.1\.bn2\.running_var \[256\]"),
        ({"conv1.weight": (64, 4, 7, 7)}, r"conv1\.weight is \[64,4,7,7\], expected \[64,3,7,7\]"),
        ({"layer5.weight": (3,)}, r"1 unexpected: layer5\.weight"),
    ],
)
def test_incomplete_and_misshapen_files_are_rejected(variables, resnet18, tmp_path, changes, named):
    path = tmp_path / "resnet18.npz"
    state = {name: x for name, x in resnet18.items() if name not in changes}
    np.savez(path, **state | {name: np.zeros(shape) for name, shape in changes.items() if shape})
    with pytest.raises(InputError, match=named):
        weights.load_encoders(variables, path)


def test_the_imagenet_resnet_of_the_data_folder_loads(variables):
    path = Path(os.environ.get("QMRA_DATA", ""), "resnet18", "resnet18_imagenet_folded.npz")
    if not os.environ.get("QMRA_DATA") or not path.exists():
        pytest.skip("QMRA_DATA is unset, or has no resnet18/resnet18_imagenet_folded.npz")
    state = weights.to_torch(weights.load_encoders(variables, path))
    with np.load(path) as file:
        kernel, bias = file["layer2.0.downsample.0.weight"], file["layer2.0.downsample.0.bias"]
    for encoder in ("query_encoder", "memory_encoder"):
        layer = f"{encoder}.layer2.0.downsample"
        np.testing.assert_array_equal(state[f"{layer}.0.weight"], kernel)
        np.testing.assert_array_equal(state[f"{layer}.1.bias"], bias)
        deviation = np.sqrt(state[f"{layer}.1.running_var"] + np.float32(1e-5))
        np.testing.assert_allclose(deviation, 1, atol=1e-7)
