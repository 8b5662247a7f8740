"""Files of frozen features: Hugging Face's names and Facebook's, float16, int8."""

import itertools

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
from tests.support.toy_dinov2 import FROZEN, LIKE, STATE, TOY, TOY_SPEC, random_state


def facebook_names(state):
    """The same arrays under the names of Facebook's checkpoint, with its mask token."""
    renamed = {"mask_token": np.zeros((1, TOY.width), np.float32)}
    for name, array in state.items():
        for theirs, facebooks in (
            ("embeddings.cls_token", "cls_token"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("layernorm", "norm"),
            ("encoder.layer", "blocks"),
            ("attention.output.dense", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
        ):
            name = name.replace(theirs, facebooks)
        renamed[name] = array
    for block, leaf in itertools.product(range(TOY.depth), ("weight", "bias")):
        parts = (
            f"blocks.{block}.attention.attention.{x}.{leaf}" for x in ("query", "key", "value")
        )
        renamed[f"blocks.{block}.attn.qkv.{leaf}"] = np.concatenate([*map(renamed.pop, parts)])
    return renamed


def test_names_and_shapes_are_hugging_faces():
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


def test_a_round_trip_through_either_names_changes_nothing():
    assert_same_tree(to_names(FROZEN), STATE)
    assert_same_tree(from_names(facebook_names(STATE), LIKE), FROZEN)


def test_every_format_is_read(tmp_path):
    mask = {"embeddings.mask_token": np.zeros((1, TOY.width), np.float32)}
    write_safetensors(tmp_path / "hf.safetensors", STATE | mask, {"format": "pt"})
    np.savez(tmp_path / "hf.npz", **STATE)
    np.savez(tmp_path / "facebook.npz", **facebook_names(STATE))
    for name in ("hf.safetensors", "hf.npz", "facebook.npz"):
        assert_same_tree(load(tmp_path / name, LIKE), FROZEN)


def test_other_arrays_are_named_in_one_message():
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


def test_the_digest_is_kept_in_float16_and_differs_between_networks(tmp_path):
    ours = digest(FROZEN)
    assert ours == "8448e142939215cefd924a1e651ab125e2f8a45fb1199c48be2711c8b1ff00b6"
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.safetensors"
        save(path, FROZEN, dtype=dtype)
        assert digest(load(path, LIKE)) == ours == read_metadata(path)["digest"]
    assert digest(from_names(random_state(seed=1), LIKE)) != ours
    with pytest.raises(InputError, match=path.name):
        save(path, FROZEN)
    large = {NAME: FROZEN[NAME] | {"norm_bias": np.full(TOY.width, 1e6, np.float32)}}
    with pytest.raises(InputError, match=r"layernorm\.bias reaches 1e\+06"):
        save(tmp_path / "large.safetensors", large, dtype="float16")


def test_a_weights_file_stores_frozen_features_as_int8(tmp_path):
    config = TINY | {"features": TOY_SPEC}
    variables = random_variables(variable_shapes(build_model(config))) | {"frozen": FROZEN}
    path = tmp_path / "int8.safetensors"
    qmra_jax.save(path, variables, config, dtype="float32", frozen_dtype="int8")
    _, loaded, _ = qmra_jax.load(path)
    assert_same_tree(loaded["params"], variables["params"])
    assert read_metadata(path)[DIGEST] == digest(FROZEN)
    assert_same_tree(load(path, LIKE), loaded["frozen"])  # as a file of features
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
    with pytest.raises(InputError, match="frozen_dtype 'int4'"):
        qmra_jax.save(tmp_path / "int4.safetensors", variables, config, frozen_dtype="int4")
    again = tmp_path / "again.safetensors"
    qmra_jax.save(again, loaded, config, dtype="float32", frozen_dtype="int8")
    assert_same_tree(qmra_jax.load(again)[1], loaded)


def test_the_command_writes_a_file_that_load_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FEATURES, "dinov2_vits14", lambda dtype: TOY)
    source, out = tmp_path / "facebook.npz", tmp_path / "dinov2.safetensors"
    np.savez(source, **facebook_names(STATE))

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["weights", "import-dinov2", *map(str, arguments)])
        return caught.value.code or 0, capsys.readouterr()

    status, printed = run(source, out, "--dtype", "float16")
    assert (status, printed.out) == (0, f"{out}\n")
    assert digest(load(out, LIKE)) == digest(FROZEN)
    assert read_metadata(out)["source"].endswith("facebook.npz")
    status, printed = run(source, out)
    assert status == 2
    assert f"{out} exists" in printed.err
    status, printed = run(tmp_path / "none.pth", tmp_path / "other.safetensors")
    assert status == 2
    assert "none.pth" in printed.err
