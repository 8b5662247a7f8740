"""Explanations against the same computed by hand."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import qmra_jax
from qmra_jax import build_model, cli
from qmra_jax.errors import InputError
from qmra_jax.explain.explanation import Stage
from qmra_jax.explain.frame import _look, attention, explain_frame
from qmra_jax.explain.sheet import Described, draw_sheet, panels
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.aggregation import AGGREGATORS
from qmra_jax.network.build import variable_shapes
from qmra_jax.network.memory_read import READERS
from qmra_jax.plots import new_figure
from tests.support.tiny import TINY

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (5, 27, 44, 3)).astype(np.uint8)  # padded to 32 x 48: 2 x 3 places
BOX = [5, 6, 20, 11]
DESCRIBED = Described("clip.mp4", "dot", "bca", "crm")


@pytest.fixture(scope="module")
def explained(tiny_model, tiny_variables):
    return explain_frame(
        tiny_model, tiny_variables, FRAMES, [BOX], pixel=(43, 1), first=7, interval=2
    )


# --- attention

QUERY_KEY = RNG.standard_normal((1, 2, 3, 4)).astype(np.float32)
MEMORY_KEY = RNG.standard_normal((1, 3, 2, 3, 4)).astype(np.float32)
MEMORY_VALUE = RNG.standard_normal((1, 3, 2, 3, 5)).astype(np.float32)
SIMILARITY = MEMORY_KEY[0] @ QUERY_KEY[0, 1, 2] / 2  # [t, H, W]


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def near_best_match():
    """KMN: a Gaussian around the query place that matches each memory place best."""
    best = np.einsum("hwc,tijc->hwtij", QUERY_KEY[0], MEMORY_KEY[0])
    i, j = np.divmod(best.reshape(6, 3, 2, 3).argmax(axis=0), 3)
    return softmax(SIMILARITY - ((i - 1) ** 2 + (j - 2) ** 2) / (2 * 1.5**2))


EXPECTED = {
    "dot": softmax(SIMILARITY),
    "topk": softmax(np.where(np.sort(SIMILARITY.ravel())[-4] <= SIMILARITY, SIMILARITY, -np.inf)),
    "kernel": near_best_match(),
    "none": np.repeat(np.eye(6)[5].reshape(1, 2, 3) / 3, 3, axis=0),
}


@pytest.mark.parametrize("name", READERS)
def test_attention_is_the_weights_of_every_reader(name):
    options = {"topk": {"k": 4}, "kernel": {"sigma": 1.5}}.get(name, {})
    read = functools.partial(READERS[name], **options)
    weights = attention(read, QUERY_KEY, MEMORY_KEY, (1, 2))
    assert weights.shape == (3, 2, 3)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    gathered = np.einsum("thw,thwc->c", weights, MEMORY_VALUE[0])
    read_out = read(QUERY_KEY, MEMORY_KEY, MEMORY_VALUE)[0, 1, 2]
    np.testing.assert_allclose(gathered, read_out, rtol=1e-4, atol=1e-5)
    if name in EXPECTED:
        np.testing.assert_allclose(weights, EXPECTED[name], rtol=1e-5, atol=1e-12)


# --- aggregation


@functools.cache
def aggregated(name):
    rng = np.random.default_rng(3)
    query_value, read_out = rng.standard_normal((2, 1, 2, 3, 16)).astype(np.float32)
    module = AGGREGATORS[name](dtype=jnp.float32)
    feature, _ = module.init_with_output(jax.random.key(0), query_value, read_out)
    attention = np.zeros((1, 2, 3), np.float32)
    return Stage(attention, query_value[0], read_out[0], np.asarray(feature)[0])


@pytest.mark.parametrize("name", ["bca", "query_only", "memory_only", "spatial", "none"])
def test_weights_are_found_for_channels_or_places(name):
    stage = aggregated(name)
    by_channel, by_place = stage.channel_weights, stage.place_weights
    assert (by_channel is None) == (name == "spatial")
    assert (by_place is None) == (name not in ("spatial", "none"))
    if name == "none":
        np.testing.assert_allclose(by_channel, 1)
    elif by_channel is not None:
        np.testing.assert_allclose(stage.before * by_channel, stage.feature, atol=1e-6)
        of_query, of_memory = np.split(by_channel, 2)
        assert (name == "memory_only") == np.allclose(of_query, 1, rtol=1e-6)
        assert (name == "query_only") == np.allclose(of_memory, 1, rtol=1e-6)
    else:
        w_q, w_m = np.split(by_place, 2, axis=-1)
        np.testing.assert_allclose(stage.feature[..., :16], w_q * stage.query_value, atol=1e-6)
        np.testing.assert_allclose(stage.feature[..., 16:], w_m * stage.read_out, atol=1e-6)


def test_channels_that_change_most_come_first():
    before = np.ones((2, 2, 4), np.float32) * [1, 2, 3, 4]
    weights = np.array([0.1, 1, 0.9, 1, 1, 1, 1, 1])  # changes: 0.9, 0, 0.3, 0; 0, 0, 0, 0
    feature = np.concatenate([before, before], axis=-1) * weights
    stage = Stage(np.zeros((1, 2, 2)), before, before, feature)
    assert stage.strongest(3).tolist() == [[0, 2, 3], [7, 6, 5]]  # ties by magnitude


def test_a_feature_of_another_width_has_no_weights():
    stage = aggregated("bca")._replace(feature=np.zeros((2, 3, 16), np.float32))
    assert stage.channel_weights is None
    assert stage.place_weights is None
    assert stage.change is None


def test_bca_weights_are_those_of_eq_7_and_8(explained, tiny_variables):
    for number, stage in enumerate(explained.stages, start=1):
        qma = tiny_variables["params"][f"qma{number}"]
        z = np.concatenate([stage.query_value.mean((0, 1)), stage.read_out.mean((0, 1))])
        hidden = np.maximum(z @ qma["fc1"]["kernel"] + qma["fc1"]["bias"], 0)
        expected = 1 / (1 + np.exp(-(hidden @ qma["fc2"]["kernel"] + qma["fc2"]["bias"])))
        np.testing.assert_allclose(stage.channel_weights, expected, rtol=1e-4)


# --- the frame


def test_the_memory_is_the_one_propagation_reads(explained, tiny_model, tiny_variables):
    assert explained.number == 7 + 4
    assert explained.memory_numbers == (7, 9, 10)  # the first, every second, the previous one
    np.testing.assert_array_equal(explained.memory_images, FRAMES[[0, 2, 3]])
    propagator = Propagator(tiny_model, tiny_variables, interval=2)
    results = [propagator.start(FRAMES[0], [BOX]), *map(propagator.step, FRAMES[1:])]
    np.testing.assert_array_equal(explained.labels, results[4].labels)
    np.testing.assert_array_equal(explained.box, results[4].boxes[0])
    expected = [results[k].boxes[0] for k in (0, 2, 3)]
    np.testing.assert_array_equal(explained.memory_boxes, expected)
    # Computed by another program than propagation's, so equal only to rounding.
    np.testing.assert_allclose(
        explained.outputs["refined"], results[4].probabilities[1], rtol=1e-4, atol=1e-6
    )


def test_the_memory_comes_in_the_order_of_its_frames(tiny_model, tiny_variables):
    propagator = Propagator(tiny_model, tiny_variables, interval=2)
    propagator.start(FRAMES[0], [BOX])
    read = {}
    for frame in FRAMES[1:]:
        propagator.step(frame)
        numbers, memory = propagator.memory(1)
        read[numbers] = np.asarray(memory.key2)
    assert list(read) == [(0, 1), (0, 2), (0, 2, 3), (0, 2, 4)]
    for first, later in ((read[0, 2], read[0, 2, 3]), (read[0, 2], read[0, 2, 4])):
        np.testing.assert_array_equal(first, later[:, :2])
    with pytest.raises(InputError, match="object 2"):
        propagator.memory(2)


def test_attention_is_of_the_pixels_place(explained, tiny_model, tiny_variables):
    assert explained.place == (0, 2)  # x 43 and y 1 lie at 45, 3 of the padded frame
    for stage in explained.stages:
        assert stage.attention.shape == (3, 2, 3)
        np.testing.assert_allclose(stage.attention.sum(), 1, rtol=1e-5)
    again = explain_frame(tiny_model, tiny_variables, FRAMES[:5], [BOX], interval=2)
    x, y = again.pixel
    if again.labels.any():
        assert again.labels[y, x] == 1
    assert explained.arrays()["stage2_attention"].shape == (3, 2, 3)


@pytest.mark.parametrize(
    "variant",
    [
        {"stages": 1, "reader": "kernel", "aggregator": "none"},
        {"align": "mask", "siamese": False, "reader": "topk:k=4", "aggregator": "spatial"},
        {"refine": "none", "kv_kernel": 3, "reader": "none", "dtype": "bfloat16"},
    ],
    ids=str,
)
def test_variants_are_explained(variant):
    module = build_model(TINY | variant)
    image, box_map = jnp.zeros((1, 32, 48, 3)), jnp.zeros((1, 32, 48, 1))

    def look(variables):
        memory = module.apply(variables, image, box_map, method="memorize")
        return _look(module, variables, image, memory, (0, 1))

    outputs, stages = jax.eval_shape(look, variable_shapes(module))
    assert list(outputs) == list(module.targets)
    assert len(stages) == module.stages
    for stage in (Stage(*arrays) for arrays in stages):
        assert stage.attention.shape == (1, 2, 3)
        assert stage.query_value.shape == stage.read_out.shape == (2, 3, 16)


def test_invalid_arguments_are_rejected(tiny_model, tiny_variables):
    explain = functools.partial(explain_frame, tiny_model, tiny_variables)
    for few in (0, 1):
        with pytest.raises(InputError, match=f"{few} frames"):
            explain(FRAMES[:few], [BOX])
    with pytest.raises(InputError, match="2 objects"):
        explain(FRAMES, [BOX, BOX])
    with pytest.raises(InputError, match=r"44,3.* 44 .* 27"):
        explain(FRAMES, [BOX], pixel=(44, 3))


# --- the sheet


def captions(panel):
    return [caption.split(",")[0].split(":")[0] for caption in panel.tiles]


def test_the_sheet_shows_predictions_attention_and_channels(explained):
    parts = panels(explained, DESCRIBED, 4)
    predictions, attention1, attention2, channels1, channels2 = parts
    refined = ["$S_q^r$", "$S_q$ to $S_q^r$"]
    assert captions(predictions)[1:] == ["$B_q$", "$S_q$", *refined, "the final label"]
    for panel, stage in zip((attention1, attention2), explained.stages, strict=True):
        shares = stage.attention.sum((1, 2))
        expected = [f"frame {n}: {s:.1%}" for n, s in zip((7, 9, 10), shares, strict=True)]
        assert list(panel.tiles) == expected
    assert len(channels1.tiles) == len(channels2.tiles) == 8
    sheet = draw_sheet(explained, DESCRIBED)
    assert sheet.get_figwidth() * sheet.dpi == 1600
    assert sum(bool(axes.images) for axes in sheet.axes) == 6 + 3 + 3 + 8 + 8


def test_a_heat_map_is_bright_where_attention_is(explained):
    places = np.zeros((3, 2, 3), np.float32)
    places[1, 0, 1] = 1
    stage = explained.stages[0]._replace(attention=places)
    attention = panels(explained._replace(stages=(stage, stage)), DESCRIBED, 4)[1]
    heats = []
    for draw in attention.tiles.values():
        axes = new_figure(100, 100).add_subplot()
        draw(axes)
        heats.append(np.asarray(axes.images[1].get_array()))
    assert [heat.max() for heat in heats] == [0, 1, 0]
    assert heats[1].shape == explained.image.shape[:2]
    row, column = np.unravel_index(heats[1].argmax(), heats[1].shape)
    top, left = (cut.start for cut in explained.crop)
    assert ((row + top) // 16, (column + left) // 16) == (0, 1)


def test_what_a_network_lacks_is_mentioned_and_not_shown(explained):
    mask = {"mask": explained.outputs["mask"]}
    one_stage = explained._replace(stages=explained.stages[:1], outputs=mask)
    predictions, _, _ = panels(one_stage, DESCRIBED, 4)
    assert captions(predictions)[1:] == ["$S_q$", "the final label"]
    assert "no $B_q$ and no $S_q^r$" in predictions.note

    unrefined = explained._replace(outputs=mask | {"box": explained.outputs["box"]})
    predictions, *_ = panels(unrefined, DESCRIBED._replace(refine="none", align="mask"), 4)
    assert captions(predictions)[1:] == ["$B_q$", "$S_q$", "the final label"]
    assert "stage 1's mask" in list(predictions.tiles)[1]
    assert "no $S_q^r$" in predictions.note

    narrow = explained.stages[0]._replace(feature=np.zeros((2, 3, 16), np.float32))
    *_, channels = panels(explained._replace(stages=(narrow, narrow)), DESCRIBED, 4)
    assert not channels.tiles
    assert "$F_a$ has 16 channels" in channels.note


@pytest.mark.parametrize(("aggregator", "named"), [("none", "No weights"), ("spatial", "Places")])
def test_an_aggregator_without_channel_weights_is_drawn(explained, aggregator, named):
    stage = aggregated(aggregator)._replace(attention=explained.stages[0].attention)
    other = explained._replace(stages=(stage, stage))
    *_, last = panels(other, DESCRIBED._replace(aggregator=aggregator), 4)
    assert named in last.note
    assert ("$w_q$" in captions(last)) == (aggregator == "spatial")
    draw_sheet(other, DESCRIBED)


def test_of_a_long_memory_the_frames_with_the_largest_shares_are_shown(explained):
    places = RNG.random((20, 2, 3)).astype(np.float32)
    places /= places.sum()
    stage = explained.stages[0]._replace(attention=places)
    long = explained._replace(
        stages=(stage, stage),
        memory_numbers=tuple(range(20)),
        memory_images=np.repeat(explained.memory_images[:1], 20, axis=0),
        memory_boxes=np.repeat(explained.memory_boxes[:1], 20, axis=0),
    )
    panel = panels(long, DESCRIBED, 4)[1]
    shown = sorted(np.argsort(-places.sum((1, 2)))[:15])
    assert captions(panel) == [f"frame {n}" for n in shown]
    assert "15 of 20 frames" in panel.note


# --- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_variables):
    """Frames, a mask of the first and a weights file."""
    root = tmp_path_factory.mktemp("explain")
    qmra_jax.save(root / "tiny.safetensors", tiny_variables, TINY)
    (root / "frames").mkdir()
    for k, frame in enumerate(FRAMES):
        cv2.imwrite(str(root / "frames" / f"{k:05d}.png"), frame[..., ::-1])
    mask = np.zeros((27, 44), np.uint8)
    mask[6:17, 5:25] = 255
    cv2.imwrite(str(root / "mask.png"), mask)
    return root


def command(folder, *arguments, output="sheet.png", box="5,6,20,11"):
    """Runs `qmra explain` and returns the exit status."""
    prompt = ["--box", box] if box else []
    command = ["explain", folder / "frames", *prompt, "--output", folder / output, *arguments]
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, command), "--weights", str(folder / "tiny.safetensors")])
    return caught.value.code or 0


def test_the_command_writes_a_sheet_and_arrays(folder, explained):
    options = ["--frame", 4, "--query", "43,1", "--interval", 2, "--npz", folder / "sheet.npz"]
    assert command(folder, *options) == 0
    assert Image.open(folder / "sheet.png").width == 1600
    with np.load(folder / "sheet.npz") as arrays:
        np.testing.assert_allclose(
            arrays["stage1_attention"], explained.stages[0].attention, rtol=1e-4
        )
        assert arrays["memory_numbers"].tolist() == [0, 2, 3]
    options = ["--frame", 4, "--mask", folder / "mask.png", "--query", "43,1", "--interval", 2]
    assert command(folder, *options, output="of_mask.png", box=None) == 0
    same = (Image.open(folder / name).tobytes() for name in ("sheet.png", "of_mask.png"))
    assert len(set(same)) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--frame", "5"], "frame 5"),
        (["--frame", "0"], "frame 0"),
        (["--frame", "2", "--query", "44,0"], "query '44,0'"),
        (["--frame", "2", "--query", "4"], "query '4'"),
        (["--frame", "2", "--output", "sheet.jpg"], "sheet.jpg"),
        (["--frame", "2", "--npz", "sheet.json"], "sheet.json"),
        (["--frame", "2", "--output", "{}/frames/00001.png", "--overwrite"], "00001.png"),
        (["--frame", "2", "--output", "{}/there.png"], "there.png"),
        (["--frame", "2", "--mask", "{}/mask.png"], "2 objects"),
    ],
)
def test_user_errors_are_one_line(folder, capsys, arguments, named):
    (folder / "there.png").write_bytes(b"kept")
    arguments = (argument.format(folder) for argument in arguments)
    assert command(folder, *arguments, output="new.png") == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert "\n" not in message
    assert named in message
    assert (folder / "there.png").read_bytes() == b"kept"
    assert not (folder / "new.png").exists()
