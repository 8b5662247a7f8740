"""DINOv2 at a toy size against PyTorch, and its files' names against each other."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qmra_jax import cli
from qmra_jax.errors import InputError
from qmra_jax.network import variants
from qmra_jax.network.dinov2 import FEATURES, DINOv2
from qmra_jax.weights.dinov2_names import (
    digest,
    from_names,
    load_features,
    name_shapes,
    save_features,
    to_names,
)
from qmra_jax.weights.state_dict_files import read_metadata, write_safetensors

TOY = DINOv2(width=24, depth=2, heads=2, grid=5)


def random_state(module=TOY, seed=0):
    """Hugging Face's names -> numbers of a trained network's spread."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in name_shapes(module).items():
        array = rng.standard_normal(shape)
        if name.endswith("weight") and array.ndim > 1:
            array *= 1.5 / math.sqrt(array[0].size)
        elif "norm" in name or "lambda1" in name:
            array = 0.3 * array + (not name.endswith("bias"))
        state[name] = array.astype(np.float32)
    return state


STATE = random_state()
FROZEN = from_names(STATE, TOY)


@functools.partial(jax.jit, static_argnames="module")
def apply(given, module=TOY):
    return module.apply({"frozen": FROZEN}, given)


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


def images(*shape):
    return np.random.default_rng(sum(shape)).random((*shape, 3), np.float32)


@pytest.mark.parametrize("grid", [(5, 5), (3, 7), (8, 5), (1, 2)])
def test_tokens_are_pytorch_s_each_of_mean_0_and_variance_1(grid):
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
    from benchmarks import torch_dinov2

    twin = torch_dinov2.DINOv2(width=24, depth=2, heads=2, grid=5)
    twin.load_state_dict({name: torch.from_numpy(x) for name, x in STATE.items()}, strict=True)
    given = images(2, 16 * grid[0], 16 * grid[1])
    expected = twin(torch.from_numpy(given).movedim(-1, 1)).movedim(1, -1)
    found = apply(given)
    assert found.shape == (2, *grid, TOY.width)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(-1), 1, atol=1e-4)


def test_nothing_is_trained_and_no_gradient_passes():
    variables = jax.eval_shape(TOY.init, jax.random.key(0), images(1, 32, 32))
    assert set(variables) == {"frozen"}
    assert {name: x.shape for name, x in variables["frozen"].items()} == TOY.shapes()

    def loss(variables, given):
        return jnp.square(TOY.apply(variables, given) - 1).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))({"frozen": FROZEN}, images(1, 32, 48))
    for gradient in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("dtype", "atol"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_16_bits_are_close_to_float32(dtype, atol):
    given = images(1, 48, 64)
    expected = apply(given)
    found = apply(given, TOY.clone(dtype=dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=atol)


def test_wrong_shapes_are_refused():
    for shape in ((1, 40, 32, 3), (1, 32, 32, 4), (32, 32, 3)):
        with pytest.raises(InputError, match="multiples of 16"):
            TOY.apply({"frozen": FROZEN}, np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=r"width 24.*heads 5"):
        TOY.clone(heads=5).init(jax.random.key(0), images(1, 16, 16))


def test_a_config_names_it():
    full = variants.choose("features", FEATURES, "dinov2_vits14")(dtype="bfloat16")
    assert full == DINOv2(dtype="bfloat16")
    assert sum(math.prod(shape) for shape in full.shapes().values()) == 22_056_192
    toy = "dinov2_vits14:width=24,depth=2,heads=2,grid=5"
    assert variants.choose("features", FEATURES, toy)(dtype=jnp.float32) == TOY
    assert variants.choose("features", FEATURES, "none")(dtype=jnp.float32) is None


def test_the_names_and_shapes_are_hugging_face_s():
    shapes = name_shapes(DINOv2())
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
    assert_same(to_names(FROZEN), dict(sorted(STATE.items())))
    assert_same(from_names(facebook_names(STATE), TOY), FROZEN)


def test_every_kind_of_file_is_read(tmp_path):
    mask = {"embeddings.mask_token": np.zeros((1, TOY.width), np.float32)}
    write_safetensors(tmp_path / "hf.safetensors", STATE | mask, {"format": "pt"})
    np.savez(tmp_path / "hf.npz", **STATE)
    np.savez(tmp_path / "facebook.npz", **facebook_names(STATE))
    for name in ("hf.safetensors", "hf.npz", "facebook.npz"):
        assert_same(load_features(tmp_path / name, TOY), FROZEN)
    torch = pytest.importorskip("torch", reason="the last file is written by PyTorch")
    tensors = {name: torch.from_numpy(x) for name, x in facebook_names(STATE).items()}
    torch.save(tensors, tmp_path / "pretrain.pth")
    assert_same(load_features(tmp_path / "pretrain.pth", TOY), FROZEN)


def test_another_network_s_arrays_are_named_in_one_message():
    name = "encoder.layer.1.mlp.fc1.bias"
    wrong = {k: x for k, x in STATE.items() if k != name}
    wrong |= {"embeddings.register_tokens": np.zeros((1, 4, 24))}
    wrong |= {"layernorm.bias": np.zeros(25)}
    with pytest.raises(InputError) as caught:
        from_names(wrong, TOY, what="dino.npz")
    for named in (
        "dino.npz",
        f"1 missing: {name} [96]",
        "1 unexpected: embeddings.register_tokens",
    ):
        assert named in str(caught.value)
    assert "1 misshapen: layernorm.bias is [25], expected [24]" in str(caught.value)
    deeper = facebook_names(STATE) | {"blocks.2.attn.qkv.bias": np.zeros(72)}
    with pytest.raises(InputError, match=r"3 unexpected: encoder\.layer\.2\.attention\.atten"):
        from_names(deeper, TOY)
    odd = facebook_names(STATE) | {"blocks.0.attn.qkv.bias": np.zeros(71)}
    with pytest.raises(InputError, match=r"3 missing: .* unexpected: .*qkv\.bias \[71\]"):
        from_names(odd, TOY)


def test_the_digest_survives_float16_and_tells_networks_apart(tmp_path):
    ours = digest(FROZEN)
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.safetensors"
        save_features(path, FROZEN, dtype=dtype)
        assert digest(load_features(path, TOY)) == ours == read_metadata(path)["digest"]
    assert digest(from_names(random_state(seed=1), TOY)) != ours
    with pytest.raises(InputError, match="exists"):
        save_features(path, FROZEN)
    large = FROZEN | {"norm_bias": np.full(TOY.width, 1e6, np.float32)}
    with pytest.raises(InputError, match=r"layernorm\.bias.*float16"):
        save_features(tmp_path / "large.safetensors", large, dtype="float16")


def test_the_command_writes_what_load_features_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("qmra_jax.network.dinov2.DINOv2", lambda: TOY)
    source, out = tmp_path / "facebook.npz", tmp_path / "dinov2.safetensors"
    np.savez(source, **facebook_names(STATE))

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["weights", "import-dinov2", *map(str, arguments)])
        return caught.value.code or 0, capsys.readouterr()

    status, told = run(source, out, "--dtype", "float16")
    assert (status, told.out) == (0, f"{out}\n")
    found = load_features(out, TOY)
    assert digest(found) == digest(FROZEN)
    np.testing.assert_allclose(found["fc1_kernel"], FROZEN["fc1_kernel"], atol=1e-3)
    assert read_metadata(out)["source"].endswith("facebook.npz")
    status, told = run(source, out)
    assert status == 2
    assert "exists" in told.err
    status, told = run(tmp_path / "none.pth", tmp_path / "other.safetensors")
    assert status == 2
    assert "no such weights file" in told.err
