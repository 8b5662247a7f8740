"""Frozen features in files: Hugging Face's names and Facebook's, float16, int8."""

import numpy as np
import pytest

import qmra_jax
from qmra_jax import cli, weights
from qmra_jax.errors import InputError
from qmra_jax.network.build import build_model, variable_shapes
from qmra_jax.network.dinov2 import FEATURES
from qmra_jax.weights.frozen_features import (
    DIGEST,
    NAME,
    PREFIX,
    digest,
    from_names,
    load,
    name_shapes,
    save,
    to_names,
)
from qmra_jax.weights.state_dict_files import read_metadata, read_state, write_safetensors
from tests.support.tiny import TINY, assert_same_tree, random_variables
from tests.support.toy_dinov2 import FROZEN, LIKE, STATE, TOY, random_state


def facebook_names(state):
    """The same arrays as Facebook's checkpoint names them, with its mask token."""
    out = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
        "mask_token": np.zeros((1, TOY.width), np.float32),
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    for i in range(TOY.depth):
        of, to = f"encoder.layer.{i}", f"blocks.{i}"
        for leaf in ("weight", "bias"):
            parts = [state[f"{of}.attention.attention.{x}.{leaf}"] for x in ("query", "key")]
            parts.append(state[f"{of}.attention.attention.value.{leaf}"])
            out[f"{to}.attn.qkv.{leaf}"] = np.concatenate(parts)
            out[f"{to}.attn.proj.{leaf}"] = state[f"{of}.attention.output.dense.{leaf}"]
            for same in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                out[f"{to}.{same}.{leaf}"] = state[f"{of}.{same}.{leaf}"]
        out[f"{to}.ls1.gamma"] = state[f"{of}.layer_scale1.lambda1"]
        out[f"{to}.ls2.gamma"] = state[f"{of}.layer_scale2.lambda1"]
    return out


def test_the_names_and_shapes_are_hugging_face_s():
    shapes = name_shapes(variable_shapes(build_model({"features": "dinov2_vits14"}))["frozen"])
    assert len(shapes) == 6 + 12 * 18
    layer = "encoder.layer.11"
    assert {
        "embeddings.cls_token": (1, 1, 384),
        "embeddings.position_embeddings": (1, 1370, 384),
        "embeddings.patch_embeddings.projection.weight": (384, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (384,),
        "layernorm.weight": (384,),
        f"{layer}.norm1.weight": (384,),
        f"{layer}.attention.attention.query.weight": (384, 384),
        f"{layer}.attention.output.dense.bias": (384,),
        f"{layer}.layer_scale1.lambda1": (384,),
        f"{layer}.mlp.fc1.weight": (1536, 384),
        f"{layer}.mlp.fc2.weight": (384, 1536),
        f"{layer}.layer_scale2.lambda1": (384,),
    }.items() <= shapes.items()


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_names_there_and_back():
    assert to_names(FROZEN).keys() == STATE.keys()
    assert_same_tree(to_names(FROZEN), STATE)
    assert_same_tree(from_names(facebook_names(STATE), LIKE), FROZEN)


def test_every_kind_of_file_is_read(tmp_path):
    mask = {"embeddings.mask_token": np.zeros((1, TOY.width), np.float32)}
    write_safetensors(tmp_path / "hf.safetensors", STATE | mask, {"format": "pt"})
    np.savez(tmp_path / "hf.npz", **STATE)
    np.savez(tmp_path / "facebook.npz", **facebook_names(STATE))
    for name in ("hf.safetensors", "hf.npz", "facebook.npz"):
        assert_same_tree(load(tmp_path / name, LIKE), FROZEN)


def test_facebook_s_checkpoint_is_read_without_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="the file is written by PyTorch")
    tensors = {name: torch.from_numpy(x) for name, x in facebook_names(STATE).items()}
    torch.save(tensors, tmp_path / "pretrain.pth")
    assert_same_tree(load(tmp_path / "pretrain.pth", LIKE), FROZEN)


def test_another_network_s_arrays_are_named_in_one_message():
    name = "encoder.layer.1.mlp.fc1.bias"
    wrong = {k: x for k, x in STATE.items() if k != name}
    wrong |= {"embeddings.register_tokens": np.zeros((1, 4, 24))}
    wrong |= {"layernorm.bias": np.zeros(25)}
    with pytest.raises(InputError) as caught:
        from_names(wrong, LIKE, what="dino.npz")
    assert str(caught.value) == (
        f"dino.npz: not the weights of this model: 1 missing: {name} [96];"
        " 1 unexpected: embeddings.register_tokens [1,4,24];"
        " 1 misshapen: layernorm.bias is [25], expected [24]"
    )
    deeper = facebook_names(STATE) | {"blocks.2.attn.qkv.bias": np.zeros(72)}
    with pytest.raises(InputError, match=r"3 unexpected: encoder\.layer\.2\.attention\.atten"):
        from_names(deeper, LIKE)
    odd = facebook_names(STATE) | {"blocks.0.attn.qkv.bias": np.zeros(71)}
    with pytest.raises(InputError, match=r"3 missing: .* unexpected: .*qkv\.bias \[71\]"):
        from_names(odd, LIKE)


def test_the_digest_survives_float16_and_tells_networks_apart(tmp_path):
    ours = digest(FROZEN)
    assert ours == "8448e142939215cefd924a1e651ab125e2f8a45fb1199c48be2711c8b1ff00b6"
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.safetensors"
        save(path, FROZEN, dtype=dtype)
        assert digest(load(path, LIKE)) == ours == read_metadata(path)["digest"]
    assert digest(from_names(random_state(seed=1), LIKE)) != ours
    with pytest.raises(InputError, match="exists"):
        save(path, FROZEN)
    large = {NAME: FROZEN[NAME] | {"norm_bias": np.full(TOY.width, 1e6, np.float32)}}
    with pytest.raises(InputError, match=r"layernorm\.bias reaches 1e\+06"):
        save(tmp_path / "large.safetensors", large, dtype="float16")


@pytest.fixture
def network():
    """A tiny network with toy features: its variables and config."""
    config = TINY | {"features": "dinov2_vits14:width=24,depth=2,heads=2,grid=5"}
    shapes = variable_shapes(build_model(config))
    trained = random_variables({name: shapes[name] for name in ("params", "batch_stats")})
    return trained | {"frozen": FROZEN}, config


def test_a_weights_file_keeps_frozen_features_as_int8(network, tmp_path):
    variables, config = network
    path = tmp_path / "int8.safetensors"
    qmra_jax.save(path, variables, config, dtype="float32", frozen_dtype="int8")
    _, loaded, _ = qmra_jax.load(path)
    assert_same_tree(loaded["params"], variables["params"])
    assert read_metadata(path)[DIGEST] == digest(FROZEN)
    assert_same_tree(load(path, LIKE), loaded["frozen"])  # also as a file of features
    assert_same_tree(weights.from_torch(read_state(path), config), loaded)

    stored, rounded = read_state(path), to_names(loaded["frozen"])
    name = "encoder.layer.0.mlp.fc1.weight"
    assert stored[f"{PREFIX}{name}"].dtype == np.int8
    assert stored[f"{PREFIX}{name}_scale"].shape == (96, 1)
    for name, array in STATE.items():
        scale = stored.get(f"{PREFIX}{name}_scale")
        assert (scale is None) == (array.squeeze().ndim < 2)
        bound = np.abs(array) / 2000 if scale is None else 0.501 * scale
        assert (np.abs(rounded[name] - array) <= bound).all(), name
    again = tmp_path / "again.safetensors"
    qmra_jax.save(again, loaded, config, dtype="float32", frozen_dtype="int8")
    assert_same_tree(qmra_jax.load(again)[1], loaded)


def test_int8_is_for_networks_with_frozen_features(network, tiny_variables, tmp_path):
    for (variables, config), dtype in ((network, "int4"), ((tiny_variables, TINY), "int8")):
        with pytest.raises(InputError, match=f"frozen_dtype '{dtype}'"):
            qmra_jax.save(tmp_path / "x.safetensors", variables, config, frozen_dtype=dtype)


def test_the_command_writes_what_load_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FEATURES, "dinov2_vits14", lambda dtype: TOY)
    source, out = tmp_path / "facebook.npz", tmp_path / "dinov2.safetensors"
    np.savez(source, **facebook_names(STATE))

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["weights", "import-dinov2", *map(str, arguments)])
        return caught.value.code or 0, capsys.readouterr()

    status, told = run(source, out, "--dtype", "float16")
    assert (status, told.out) == (0, f"{out}\n")
    found = load(out, LIKE)
    assert digest(found) == digest(FROZEN)
    np.testing.assert_allclose(found[NAME]["fc1_kernel"], FROZEN[NAME]["fc1_kernel"], atol=1e-3)
    assert read_metadata(out)["source"].endswith("facebook.npz")
    status, told = run(source, out)
    assert status == 2
    assert "exists" in told.err
    status, told = run(tmp_path / "none.pth", tmp_path / "other.safetensors")
    assert status == 2
    assert "none.pth" in told.err
