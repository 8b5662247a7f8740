"""A random checkpoint with the official STM's names, converted, against STM in PyTorch."""

import jax
import numpy as np
import pytest

import qmra_jax
from configs import stm as stm_config
from qmra_jax import build_model, cli
from qmra_jax.errors import InputError
from qmra_jax.inference.object_merging import soft_aggregation
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.priors import odds_prior
from qmra_jax.weights.stm import from_stm
from qmra_jax.weights.torch_names import torch_shapes
from tests.support.tiny import TINY

torch = pytest.importorskip("torch", reason="STM's twin is written in PyTorch")
from benchmarks import torch_stm  # noqa: E402

# Padded as in test_model_variants.py, which shares the compiled operations.
SIZE, PADDED = (27, 44), (32, 48)
PADDING = ((0, 0), (2, 3), (2, 2))
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def twin():
    """STM with random weights at a trained network's scale."""
    torch.manual_seed(0)
    model = torch_stm.STM(**TINY).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                fan_in = parameter[0].numel()
                gain = 8.0 if name.startswith("Decoder.pred2") else 1.5
                parameter.normal_(std=(gain / fan_in) ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                buffer.normal_(std=0.1)
    return model


@pytest.fixture(scope="module")
def checkpoint(twin, tmp_path_factory):
    """Saved like the official one: the state dict of a DataParallel."""
    path = tmp_path_factory.mktemp("stm") / "STM_weights.pth"
    torch.save({f"module.{name}": x for name, x in twin.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def ours(checkpoint):
    out = checkpoint.with_name("stm.safetensors")
    assert run("import-stm", checkpoint, out) == 0
    return qmra_jax.load(out)


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["weights", *map(str, arguments)])
    return caught.value.code or 0


def test_the_logits_are_those_of_stm(twin, ours):
    module, variables, _ = ours
    images = RNG.random((3, *PADDED, 3), np.float32)
    masks = RNG.random((2, *PADDED, 1), np.float32)  # soft, as stored masks are
    with jax.default_matmul_precision("float32"):
        found = module.apply(variables, images[2:], images[None, :2], masks[None])["mask"]
    frames, maps = (torch.from_numpy(x).movedim(-1, 1) for x in (images, masks))
    with torch.inference_mode():
        frame = [twin.memorize(frames[i : i + 1], maps[i : i + 1]) for i in range(2)]
        memory = torch_stm.KeysValues(*(torch.cat(x, 1) for x in zip(*frame, strict=True)))
        expected = twin.segment(frames[2:], memory).movedim(1, -1).numpy()
    assert np.std(expected) > 0.1
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_video_from_a_mask_has_stms_labels(twin, ours):
    module, variables, _ = ours
    video = RNG.integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, bool)
    mask[8:24, 10:40] = RNG.random((16, 30)) > 0.3
    frames = torch.from_numpy(np.pad(video, (*PADDING, (0, 0)))).movedim(-1, 1).float() / 255
    start = torch.from_numpy(np.pad(mask[None], PADDING)).float()[None]
    with torch.inference_mode():
        expected = twin.propagate(frames, start)[:, 2:-3, 2:-2].numpy()
    with jax.disable_jit(), jax.default_matmul_precision("float32"):
        propagator = qmra_jax.Propagator(module, variables, interval=5, merge="soft_aggregation")
        propagator.start(video[0], masks=mask)
        for frame, probability in zip(video[1:], expected[1:], strict=True):
            result = propagator.step(frame)
            np.testing.assert_allclose(result.probabilities[1], probability, atol=1e-3)
            tied = np.abs(probability - 0.5) < 1e-3
            np.testing.assert_array_equal(result.labels[~tied], (probability > 0.5)[~tied])
            assert tied.mean() < 0.01
            assert 0.02 < (probability > 0.5).mean() < 0.98


def test_the_odds_prior_is_stms_soft_aggregation_of_one_object():
    logits = np.linspace(-6, 6, 25, dtype=np.float32)[None, :, None]
    expected = soft_aggregation(logits, np.array([True]))[1]
    probability = 1 / (1 + np.exp(-logits[0]))
    np.testing.assert_allclose(odds_prior(probability), expected, atol=1e-6)


def test_the_official_checkpoints_names_and_shapes_fit_our_config():
    with torch.device("meta"):
        official = torch_stm.STM()
    shapes = {name: tuple(x.shape) for name, x in official.state_dict().items()}
    buffers = ("mean", "std")
    state = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in shapes.items()
        if not name.endswith(buffers) or "running" in name
    }
    converted, config = from_stm(state)
    wanted = stm_config.get_config().model
    assert build_model(config) == build_model(wanted)
    expected = torch_shapes(variable_shapes(build_model(wanted)))
    assert {name: x.shape for name, x in converted.items()} == expected
    count = sum(p.numel() for p in official.parameters()) - 64 * 7 * 7  # without conv1_o
    learned = [s for name, s in expected.items() if "running" not in name]
    assert sum(int(np.prod(s)) for s in learned) == count


def test_the_command_names_what_it_leaves_out(checkpoint, capsys):
    out = checkpoint.with_name("again.safetensors")
    assert run("import-stm", checkpoint, out, "--dtype", "float16") == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "Encoder_M.conv1_o.weight" in printed.err
    assert run("import-stm", checkpoint, out) == 2  # the file exists
    assert str(out) in capsys.readouterr().err


def test_other_weights_are_rejected_by_stms_names(twin):
    state = {name: x.numpy() for name, x in twin.state_dict().items()}
    lacking = {name: x for name, x in state.items() if name != "KV_M_r4.Key.bias"}
    for wrong, named in (
        (lacking, r"1 missing: KV_M_r4\.Key\.bias"),
        ({**state, "Decoder.pred3.bias": np.zeros(2)}, r"1 unexpected: Decoder\.pred3\.bias"),
        ({**state, "Encoder_M.conv1_m.weight": np.zeros((64, 2, 7, 7))}, r"Encoder_M\.conv1_m"),
        ({**state, "Encoder_Q.mean": np.zeros((1, 3, 1, 1))}, r"Encoder_Q\.mean"),
        ({"conv1.weight": np.zeros((64, 3, 7, 7))}, r"conv1\.weight"),
    ):
        with pytest.raises(InputError, match=named):
            from_stm(wrong)
