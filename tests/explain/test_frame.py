"""What the network reads, weighs and answers in a frame, held against the same by hand."""

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


def keys_and_values(t=3, height=2, width=3):
    query_key = RNG.standard_normal((1, height, width, 4)).astype(np.float32)
    memory_key = RNG.standard_normal((1, t, height, width, 4)).astype(np.float32)
    return query_key, memory_key, RNG.standard_normal((1, t, height, width, 5)).astype(np.float32)


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


@pytest.mark.parametrize("name", READERS)
def test_attention_is_what_every_reader_gathers_by(name):
    query_key, memory_key, memory_value = keys_and_values()
    options = {"k": 4} if name == "topk" else {}
    read = functools.partial(READERS[name], **options)
    found = attention(read, query_key, memory_key, (1, 2))
    assert found.shape == (3, 2, 3)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
    gathered = np.einsum("thw,thwc->c", found, memory_value[0])
    read_out = read(query_key, memory_key, memory_value)[0, 1, 2]
    np.testing.assert_allclose(gathered, read_out, rtol=1e-4, atol=1e-5)


def near_its_match(query_key, memory_key, similar):
    """STM with KMN's kernel: a Gaussian about where each memory place finds its best query."""
    best = np.einsum("hwc,tijc->hwtij", query_key, memory_key).reshape(6, 3, 2, 3).argmax(axis=0)
    i, j = np.divmod(best, 3)
    return softmax(similar - ((i - 1) ** 2 + (j - 2) ** 2) / (2 * 1.5**2))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dot", {}, lambda query, memory, similar: softmax(similar)),
        (
            "topk",
            {"k": 4},
            lambda query, memory, similar: softmax(
                np.where(similar >= np.sort(similar.ravel())[-4], similar, -np.inf)
            ),
        ),
        ("kernel", {"sigma": 1.5}, near_its_match),
        ("none", {}, lambda query, memory, similar: np.eye(6)[5].reshape(2, 3)[None] / 3),
    ],
)
def test_attention_of_a_place_is_what_its_reader_says(name, options, expected):
    """Of dot the softmax of Eq. 6."""
    query_key, memory_key, _ = keys_and_values()
    read = functools.partial(READERS[name], **options)
    similar = memory_key[0] @ query_key[0, 1, 2] / 2
    wanted = np.broadcast_to(expected(query_key[0], memory_key[0], similar), similar.shape)
    found = attention(read, query_key, memory_key, (1, 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-12)


# --- aggregation


@functools.cache
def aggregated(name):
    own = np.random.default_rng(3)
    query_value, read_out = own.standard_normal((2, 1, 2, 3, 16)).astype(np.float32)
    module = AGGREGATORS[name](dtype=jnp.float32)
    feature, _ = module.init_with_output(jax.random.key(0), query_value, read_out)
    nothing = np.zeros((1, 2, 3), np.float32)
    return Stage(nothing, query_value[0], read_out[0], np.asarray(feature)[0])


@pytest.mark.parametrize("name", ["bca", "query_only", "memory_only", "spatial", "none"])
def test_weights_are_of_channels_or_of_places(name):
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
    assert stage.strongest(3).tolist() == [[0, 2, 3], [7, 6, 5]]  # then those of large values


def test_a_feature_of_other_channels_has_no_weights():
    stage = aggregated("bca")._replace(feature=np.zeros((2, 3, 16), np.float32))
    assert stage.channel_weights is None
    assert stage.place_weights is None
    assert stage.change is None


def test_bca_weights_are_those_of_eq_8(explained, tiny_variables):
    for number, stage in enumerate(explained.stages, start=1):
        qma = tiny_variables["params"][f"qma{number}"]
        z = np.concatenate([stage.query_value.mean((0, 1)), stage.read_out.mean((0, 1))])
        hidden = np.maximum(z @ qma["fc1"]["kernel"] + qma["fc1"]["bias"], 0)
        expected = 1 / (1 + np.exp(-(hidden @ qma["fc2"]["kernel"] + qma["fc2"]["bias"])))
        np.testing.assert_allclose(stage.channel_weights, expected, rtol=1e-4)


# --- the frame


def test_the_memory_is_what_propagation_reads(explained, tiny_model, tiny_variables):
    assert explained.number == 7 + 4
    assert explained.memory_numbers == (7, 9, 10)  # the first, every second, the previous one
    np.testing.assert_array_equal(explained.memory_images, FRAMES[[0, 2, 3]])
    propagator = Propagator(tiny_model, tiny_variables, interval=2)
    results = [propagator.start(FRAMES[0], [BOX]), *map(propagator.step, FRAMES[1:])]
    np.testing.assert_array_equal(explained.labels, results[4].labels)
    np.testing.assert_array_equal(explained.box, results[4].boxes[0])
    expected = [results[k].boxes[0] for k in (0, 2, 3)]
    np.testing.assert_array_equal(explained.memory_boxes, expected)
    # The outputs come of another program than propagation's, from the memory that it gave.
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
    with pytest.raises(InputError, match="object 2: there is none"):
        propagator.memory(2)


def test_attention_is_that_of_the_pixels_place(explained, tiny_model, tiny_variables):
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


def test_bad_requests_are_told_before_the_first_compile(tiny_model, tiny_variables):
    explain = functools.partial(explain_frame, tiny_model, tiny_variables)
    for few in (0, 1):
        with pytest.raises(InputError, match=f"{few} frames: expected"):
            explain(FRAMES[:few], [BOX])
    with pytest.raises(InputError, match="2 objects: expected one"):
        explain(FRAMES, [BOX, BOX])
    with pytest.raises(InputError, match="44 wide and 27 high"):
        explain(FRAMES, [BOX], pixel=(44, 3))


# --- the sheet


def captions(panel):
    return [tile.caption for row in panel.rows for tile in row]


def titles(panel):
    return [caption.split(",")[0].split(":")[0] for caption in captions(panel)]


def test_the_sheet_shows_answers_attention_and_channels(explained):
    answers, attention1, attention2, channels1, channels2 = panels(explained, DESCRIBED, 4)
    refined = ["$S_q^r$", "$S_q$ to $S_q^r$"]
    assert titles(answers)[1:] == ["$B_q$", "$S_q$", *refined, "the final label"]
    for panel, stage in zip((attention1, attention2), explained.stages, strict=True):
        shares = stage.attention.sum((1, 2))
        expected = [f"frame {n}: {s:.1%}" for n, s in zip((7, 9, 10), shares, strict=True)]
        assert captions(panel) == expected
    assert len(captions(channels1)) == len(captions(channels2)) == 8
    sheet = draw_sheet(explained, DESCRIBED)
    assert sheet.get_figwidth() * sheet.dpi == 1600
    (page,) = sheet.axes
    drawn = [axes for axes in page.child_axes if axes.images]
    assert len(drawn) == 6 + 3 + 3 + 8 + 8 + 4  # the last are the colours' scales


def test_a_heat_map_is_as_hot_as_its_place_counts(explained):
    places = np.zeros((3, 2, 3), np.float32)
    places[1, 0, 1] = 1
    stage = explained.stages[0]._replace(attention=places)
    attention = panels(explained._replace(stages=(stage, stage)), DESCRIBED, 4)[1]
    heats = []
    for tile in attention.rows[0]:
        axes = new_figure(100, 100).add_subplot()
        tile.draw(axes)
        heats.append(np.asarray(axes.images[1].get_array()))
    assert [heat.max() for heat in heats] == [0, 1, 0]
    assert heats[1].shape == explained.image.shape[:2]
    row, column = np.unravel_index(heats[1].argmax(), heats[1].shape)
    top, left = (cut.start for cut in explained.crop)
    assert ((row + top) // 16, (column + left) // 16) == (0, 1)


def test_what_a_network_lacks_is_left_out_and_said(explained):
    mask = {"mask": explained.outputs["mask"]}
    one = explained._replace(stages=explained.stages[:1], outputs=mask)
    answers, _, _ = panels(one, DESCRIBED, 4)
    assert titles(answers)[1:] == ["$S_q$", "the final label"]
    assert "no $B_q$ and no $S_q^r$" in answers.note
    unrefined = explained._replace(outputs=mask | {"box": explained.outputs["box"]})
    answers, *_ = panels(unrefined, DESCRIBED._replace(refine="none", align="mask"), 4)
    assert titles(answers)[1:] == ["$B_q$", "$S_q$", "the final label"]
    assert "stage 1's mask" in captions(answers)[1]
    assert "Refine none: there is no $S_q^r$" in answers.note
    other = explained.stages[0]._replace(feature=np.zeros((2, 3, 16), np.float32))
    *_, channels = panels(explained._replace(stages=(other, other)), DESCRIBED, 4)
    assert captions(channels) == []
    assert "$F_a$ has 16 channels" in channels.note


@pytest.mark.parametrize(
    ("aggregator", "said"),
    [("none", "nothing is weighed"), ("spatial", "places are weighed, not channels")],
)
def test_an_aggregator_without_channel_weights_says_what_it_has(explained, aggregator, said):
    stage = aggregated(aggregator)._replace(attention=explained.stages[0].attention)
    other = explained._replace(stages=(stage, stage))
    *_, last = panels(other, DESCRIBED._replace(aggregator=aggregator), 4)
    assert said in last.title
    assert ("$w_q$ of $V_q$" in captions(last)[0]) == (aggregator == "spatial")
    draw_sheet(other, DESCRIBED)


def test_of_a_long_memory_those_that_count_most_are_shown_and_the_rest_told(explained):
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
    kept = sorted(np.argsort(-places.sum((1, 2)))[:15])
    assert [c.split(":")[0] for c in captions(panel)] == [f"frame {n}" for n in kept]
    assert "15 of 20 frames" in panel.note


# --- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_variables):
    """Frames 00000.png and on, their mask and a weights file."""
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
    """The exit status of `qmra explain`."""
    drawn = ["--box", box] if box else []
    command = ["explain", folder / "frames", *drawn, "--output", folder / output, *arguments]
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
    ("arguments", "said"),
    [
        (["--frame", "5"], "frame 5"),
        (["--frame", "0"], "frame 0 is not after frame 0"),
        (["--frame", "2", "--query", "44,0"], "query '44,0'"),
        (["--frame", "2", "--query", "4"], "query '4'"),
        (["--frame", "2", "--output", "sheet.jpg"], "sheet.jpg"),
        (["--frame", "2", "--npz", "sheet.json"], "sheet.json"),
        (["--frame", "2", "--output", "{}/frames/00001.png", "--overwrite"], "also an input"),
        (["--frame", "2", "--output", "{}/there.png"], "exists"),
        (["--frame", "2", "--mask", "{}/mask.png"], "2 objects: expected one"),
    ],
)
def test_bad_requests_are_one_line(folder, capsys, arguments, said):
    (folder / "there.png").write_bytes(b"kept")
    given = (argument.format(folder) for argument in arguments)
    assert command(folder, *given, output="new.png") == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ")
    assert "\n" not in message
    assert said in message
    assert (folder / "there.png").read_bytes() == b"kept"
    assert not (folder / "new.png").exists()
