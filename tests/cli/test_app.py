"""The command line: files as promised; bad input is one line, exit status 2, and harmless."""

import csv
import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import qmra_jax
from qmra_jax import cli
from qmra_jax.boxes import mask_to_box
from qmra_jax.cli import options as cli_options
from qmra_jax.inference.memory_bank import Slots
from qmra_jax.inference.propagator import FrameResult
from qmra_jax.masks import read_labels, write_labels
from qmra_jax.network.build import variable_shapes
from qmra_jax.video.reader import VideoReader
from qmra_jax.weights import state_dict_files
from qmra_jax.weights.state_dict_files import read_metadata
from tests.support.processes import complaints
from tests.support.tiny import TINY
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A tiny network's file; its weights are zeros."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = tiny_config()
    shapes = variable_shapes(qmra_jax.build_model(config))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    qmra_jax.save(path, variables, config, metadata={"trained": "never"})
    return path


def tiny_config():
    from configs import small

    config = small.get_config().model
    config.update({k: v for k, v in TINY.items() if k != "backbone"})
    return config


class Bright:
    """Stands for the network: the object is what is bright; a dark frame has none."""

    def __init__(self, module, variables, **settings):
        self.settings = {"dtype": module.dtype, **settings}
        self.entered = []  # (ids, boxes) as they came

    def start(self, frame, boxes=None, *, masks=None, ids):
        self.ids: tuple[int, ...] = ()
        return self.step(frame, boxes, masks=masks, ids=ids)._replace(seconds=None)  # it compiled

    def step(self, frame, boxes=None, *, masks=None, ids=()):
        boxes = boxes if masks is None else mask_to_box(masks)
        if boxes is not None:
            self.entered.append((ids, boxes.tolist()))
        self.ids = tuple(sorted((*self.ids, *ids)))
        mask = frame.min(axis=-1) > 128
        found = np.zeros((len(self.ids), 4), np.int32)
        found[0] = mask_to_box(mask)
        probabilities = np.full((len(self.ids) + 1, *mask.shape), 0.75, np.float32)
        return FrameResult(
            mask * np.uint8(self.ids[0]), found, 0.25, probabilities=probabilities, ids=self.ids
        )


_load = functools.cache(qmra_jax.weights.load)


@pytest.fixture
def bright(monkeypatch):
    """Replaces the network; weights files are read once each."""
    made = []
    monkeypatch.setattr("qmra_jax.weights.safetensors_model.load", _load)

    def make(*arguments, **settings):
        made.append(Bright(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr("qmra_jax.inference.propagator.Propagator", make)
    return made


def moving_square():
    """Six frames of 48x64; a white square moves right by 8 a frame, and is gone in the last."""
    frames = np.full((6, 48, 64, 3), 40, np.uint8)
    for t in range(5):
        frames[t, 16:32, 8 * t : 8 * t + 16] = 250
    return frames


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "clip.mp4", moving_square(), fps=12)


def run(*arguments) -> int:
    """The exit status of `qmra ...`."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code or 0


def refused(capsys, *arguments) -> str:
    """The line that `qmra ...` says when it refuses."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert captured.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


WEIGHTS_COMMANDS = [
    "weights",
    *(f"weights {c}" for c in ("show", "export", "average", "convert")),
    *(f"weights import-{c}" for c in ("stm", "dinov2")),
]


@pytest.mark.parametrize("command", ["", "segment", "explain", "score", *WEIGHTS_COMMANDS])
def test_help_has_examples_everywhere(capsys, command):
    assert run(*command.split(), "--help") == 0
    help_text = capsys.readouterr().out
    assert "Example" in help_text
    assert f"  qmra {command}".rstrip() + " " in help_text


def test_help_does_not_wait_for_jax():
    code = (
        "import sys; from qmra_jax import cli\n"
        "try: cli.main(['segment', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'flax', 'tensorflow', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_bad_input_ends_the_process_with_status_2(tmp_path):
    command = [sys.executable, "-c", "from qmra_jax.cli import main; main()", "segment"]
    arguments = ["absent.mp4", "--box", "1,2,3,4", "--output", "out"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert complaints(done).count("\n") == 1
    assert complaints(done).startswith("error: absent.mp4 not found")


def test_segment_writes_masks_boxes_and_an_overlay(tmp_path, clip, weights, bright, capsys):
    output = tmp_path / "out"
    command = ["segment", clip, "--box", "0,16,16,16", "--box", "40,0,8,8", "--weights", weights]
    assert run(*command, "--output", output, "--interval", 5, "--short-side", 32) == 0
    assert bright[0].settings == {
        "dtype": "float32",
        "interval": 5,
        "short_side": 32,
        "merge": "softmax",
        "max_memory": 20,
    }

    masks = sorted((output / "masks").iterdir())
    assert [path.name for path in masks] == [f"0000{t}.png" for t in range(6)]
    with Image.open(masks[0]) as image:
        assert image.mode == "P"
    for t in range(5):
        assert read_labels(masks[t])[20, 8 * t + 8] == 1
    assert not read_labels(masks[5]).any()

    rows = list(csv.reader((output / "boxes.csv").open()))
    assert rows[0] == ["frame", "object", "x", "y", "width", "height"]
    assert [row[:2] for row in rows[1:]] == [[str(t), str(n)] for t in range(6) for n in (1, 2)]
    assert rows[1 + 2 * 3][2:] == ["24", "16", "16", "16"]
    assert rows[1 + 2 * 5][2:] == [""] * 4  # gone
    assert all(row[2:] == [""] * 4 for row in rows[2::2])  # the second object is never seen

    shown = VideoReader(output / "overlay.mp4")
    assert (shown.size, shown.fps, shown.count) == ((48, 64), 12, 6)
    red, green, _ = shown.frame(2)[24, 24].astype(int)
    assert red > green + 40
    assert np.abs(shown.frame(5).astype(int) - 40).max() < 12

    said = capsys.readouterr().out
    assert "6 frames" in said
    assert "4.00 frames/s" in said
    assert str(output / "overlay.mp4") in said


def test_a_box_in_a_middle_frame_reaches_every_frame(tmp_path, weights, bright):
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame in enumerate(moving_square()):
        Image.fromarray(frame).save(folder / f"{t}.png")
    output = tmp_path / "out"
    command = ["segment", folder, "--box", "16,16,16,16", "--frame", 2, "--weights", weights]
    assert run(*command, "--output", output) == 0
    for t in range(5):
        expected = (moving_square()[t, ..., 0] == 250).astype(np.uint8)
        assert np.array_equal(read_labels(output / "masks" / f"0000{t}.png"), expected)
    rows = list(csv.reader((output / "boxes.csv").open()))[1:]
    assert [int(row[0]) for row in rows] == list(range(6))
    assert [row[2] for row in rows] == ["0", "8", "16", "24", "32", ""]


def test_segment_runs_the_network_itself(tmp_path, weights):
    clip = write_video(tmp_path / "clip.mp4", moving_square()[:4, 8:40, :48], fps=12)
    output = tmp_path / "out"
    command = ["segment", clip, "--box", "8,8,16,16", "--frame", 1, "--interval", 2]
    assert run(*command, "--weights", weights, "--output", output) == 0
    masks = sorted((output / "masks").iterdir())
    assert [path.name for path in masks] == [f"0000{t}.png" for t in range(4)]
    assert all(read_labels(path).shape == (32, 48) for path in masks)
    rows = list(csv.reader((output / "boxes.csv").open()))
    assert rows[2] == ["1", "1", "8", "8", "16", "16"]  # as it was drawn
    assert VideoReader(output / "overlay.mp4").count == 4


def test_every_kind_of_output_is_chosen_by_its_option(tmp_path, clip, weights, bright, capsys):
    command = ["segment", clip, "--box", "0,16,16,16", "--weights", weights, "--output"]
    more = ["--mot", "--coco", "--cutout", "png", "--cutout", "webm"]
    names = ["boxes.csv", "coco.json", "cutout", "cutout.webm", "masks", "mot.txt", "overlay.mp4"]
    assert run(*command, tmp_path / "all", *more) == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == names
    said = capsys.readouterr().out
    assert all(str(tmp_path / "all" / name) in said for name in names)
    fewer = ["--no-masks", "--no-overlay", "--no-boxes", "--mot"]
    assert run(*command, tmp_path / "all", *fewer, "--overwrite") == 0
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["mot.txt"]  # nothing stale


def test_the_networks_options_reach_it(tmp_path, clip, weights, bright):
    command = ["segment", clip, "--box", "0,16,16,16", "--weights", weights]
    options = ["--max-memory", 7, "--merge", "soft_aggregation", "--dtype", "bfloat16"]
    assert run(*command, "--output", tmp_path / "out", *options) == 0
    settings = bright[0].settings
    assert (settings["max_memory"], settings["merge"]) == (7, "soft_aggregation")
    assert settings["dtype"] == "bfloat16"


def test_memory_has_a_bound_unless_none_is_asked_for(tmp_path, clip, weights, bright):
    """A 2,000-frame clip would keep 200 frames of each object."""
    command = ["segment", clip, "--box", "0,16,16,16", "--weights", weights]
    assert run(*command, "--output", tmp_path / "bounded") == 0
    assert run(*command, "--output", tmp_path / "all", "--max-memory", 0) == 0
    assert [propagator.settings["max_memory"] for propagator in bright] == [20, None]
    bounded, all_there_are = Slots(10, 20), Slots(10)
    assert max(bounded.capacities(2000)) == 20
    for number in range(1, 191):  # frames 0 to 190 have the same memory
        assert bounded.extras == all_there_are.extras
        bounded.place(number)
        all_there_are.place(number)
    assert bounded.extras != all_there_are.extras


def test_a_mask_starts_its_objects_by_its_labels_and_boxes_take_free_ids(
    tmp_path, clip, weights, bright
):
    labels = np.zeros((48, 64), np.uint8)
    labels[16:32, 8:24], labels[2:6, 40:50], labels[40:, :] = 2, 5, 255
    write_labels(tmp_path / "start.png", labels)
    command = ["segment", clip, "--mask", tmp_path / "start.png", "--frame", 1]
    command += ["--box", "1,2,3,4", "--box", "5,6,7,8@3", "--weights", weights]
    assert run(*command, "--output", tmp_path / "out") == 0
    first = ((2, 5, 1), [[8, 16, 16, 16], [40, 2, 10, 4], [1, 2, 3, 4]])
    later = ((3,), [[5, 6, 7, 8]])
    assert bright[0].entered == [first, first, later]  # backwards, then forwards
    rows = list(csv.reader((tmp_path / "out" / "boxes.csv").open()))[1:]
    ids = [[row[1] for row in rows if row[0] == str(t)] for t in range(6)]
    assert ids == [["1", "2", "5"]] * 3 + [["1", "2", "3", "5"]] * 3


def test_a_mask_of_another_size_is_refused(tmp_path, clip, weights, bright, capsys):
    write_labels(tmp_path / "start.png", np.ones((48, 60), np.uint8))
    command = ["segment", clip, "--mask", tmp_path / "start.png", "--output", tmp_path / "out"]
    line = refused(capsys, *command, "--weights", weights)
    assert "60x48" in line
    assert "64x48" in line


def test_numbers_that_a_folder_leaves_out_are_told(tmp_path, weights, bright, capsys):
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(moving_square()):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t + (t > 1)}.png")
    command = ["segment", tmp_path / "frames", "--box", "0,0,999,9", "--weights", weights]
    assert run(*command, "--output", tmp_path / "out") == 2  # the box leaves the frame
    assert "between 1.png and 3.png" in capsys.readouterr().err


def test_a_damaged_frame_ends_the_run_and_keeps_what_was_found(tmp_path, weights, bright, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame in enumerate(moving_square()):
        Image.fromarray(frame).save(folder / f"{t}.png")
    (folder / "3.png").write_bytes(b"torn")
    output = tmp_path / "out"
    command = ["segment", folder, "--box", "0,16,16,16", "--weights", weights, "--output", output]
    assert run(*command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: frame 3, image ")
    assert "--skip-bad" in line
    assert str(output) in line
    assert [path.name for path in sorted((output / "masks").iterdir())] == [
        f"0000{t}.png" for t in range(3)
    ]
    assert VideoReader(output / "overlay.mp4").count == 3
    assert list(csv.reader((output / "boxes.csv").open()))[-1][0] == "2"

    assert run(*command, "--overwrite", "--skip-bad") == 0
    assert "1 frame could not be decoded and carries the last mask: 3" in capsys.readouterr().err
    masks = [read_labels(output / "masks" / f"0000{t}.png") for t in range(6)]
    assert np.array_equal(masks[3], masks[2])
    assert not np.array_equal(masks[4], masks[3])
    assert VideoReader(output / "overlay.mp4").count == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--box", "1,2,3"], ["1,2,3", "x,y,width,height"]),
        (["--box", "1,2,a,4"], ["1,2,a,4", "x,y,width,height"]),
        (["--box", "0,0,0,5"], ["0,0,0,5", "empty"]),
        (["--box", "60,0,5,5"], ["60,0,5,5", "outside", "64 wide and 48 high"]),
        (["--box", "-1,0,5,5"], ["-1,0,5,5", "outside"]),
        (["--box", "0,0,5,5", "--box", "0,44,5,5"], ["0,44,5,5", "outside"]),
        (["--box", "0,0,5,5", "--frame", "6"], ["frame 6", "6 frames", "0 to 5"]),
        (["--box", "0,0,5,5", "--frame", "-1"], ["frame -1", "0 to 5"]),
        (["--box", "0,0,5,5", "--box", "0,0,5,5@6"], ["frame 6", "6 frames", "0 to 5"]),
        (["--box", "0,0,5,5@"], ["0,0,5,5@", "@30"]),
        ([], ["no object", "--box", "--mask"]),
        (["--mask", "absent.png"], ["absent.png", "no such file"]),
        (
            ["--box", "0,0,5,5", "--no-masks", "--no-overlay", "--no-boxes"],
            ["no output", "masks", "cutout-webm"],
        ),
    ],
)
def test_bad_boxes_and_frames_are_refused(
    tmp_path, clip, weights, bright, capsys, arguments, words
):
    output = tmp_path / "out"
    command = ["segment", clip, *arguments, "--weights", weights, "--output", output]
    line = refused(capsys, *command)
    assert all(word in line for word in words)
    assert not output.exists()
    assert not bright


@pytest.mark.parametrize("command", ["segment", "explain"])
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--short-side", 15, "--short-side 15: expected at least 16 pixels, or 0 to shrink no"),
        ("--short-side", -1, "--short-side -1: expected at least 16"),
        ("--max-memory", 1, "--max-memory 1: expected at least 2 frames, or 0 for no bound"),
    ],
)
def test_a_bad_number_is_refused_before_anything_is_read(capsys, command, option, value, says):
    rest = ["--frame", 3] if command == "explain" else []
    assert says in refused(capsys, command, "absent.mp4", "--output", "o.png", *rest, option, value)


def test_missing_or_foreign_weights_are_refused(tmp_path, clip, capsys, monkeypatch):
    command = ["segment", clip, "--box", "0,0,5,5", "--output", tmp_path / "out"]
    absent = tmp_path / "absent.safetensors"
    assert str(absent) in refused(capsys, *command, "--weights", absent)
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    assert str(text) in refused(capsys, *command, "--weights", text)
    monkeypatch.setattr(cli_options, "DEFAULT_WEIGHTS", absent)
    assert "--weights FILE" in refused(capsys, *command)
    assert not (tmp_path / "out").exists()


def test_an_earlier_result_is_replaced_only_when_asked(tmp_path, clip, weights, bright, capsys):
    output = tmp_path / "out"
    write_labels(output / "masks" / "00099.png", np.ones((4, 4), np.uint8))  # of a longer video
    (output / "notes.txt").write_text("mine")
    command = ["segment", clip, "--box", "0,16,16,16", "--weights", weights, "--output", output]
    assert "not empty" in refused(capsys, *command)
    assert (output / "masks" / "00099.png").exists()
    assert run(*command, "--overwrite") == 0
    assert len(list((output / "masks").iterdir())) == 6
    assert not (output / "masks" / "00099.png").exists()
    assert (output / "notes.txt").read_text() == "mine"


def test_a_result_never_replaces_its_own_source(tmp_path, weights, bright, capsys):
    source = tmp_path / "masks"
    write_labels(source / "00000.png", np.zeros((48, 64), np.uint8))
    command = ["segment", source, "--box", "0,0,5,5", "--weights", weights, "--output", tmp_path]
    assert "replaced by its own result" in refused(capsys, *command, "--overwrite")
    assert (source / "00000.png").exists()


def test_weights_show_tells_parameters_dtype_and_config(weights, capsys):
    assert run("weights", "show", weights) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: words[1] for words in lines if len(words) == 2}
    _, variables, _ = qmra_jax.load(weights)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert shown["parameters"] == f"{count:,}"
    assert shown["trained"] == "never"
    assert shown["backbone"] == TINY["backbone"]
    assert shown["key_dim"] == "8"
    assert "float32" in shown["stored"]


def config_file(folder) -> Path:
    path = folder / "tiny.py"
    path.write_text(
        "from configs import small\n"
        "def get_config():\n"
        "    config = small.get_config()\n"
        f"    config.model.update({TINY!r})\n"
        "    return config\n"
    )
    return path


def test_weights_convert_makes_a_file_of_a_bare_state_dict(tmp_path, weights, capsys):
    _, variables, _ = qmra_jax.load(weights)
    variables["params"]["qma1"]["fc1"]["bias"] += 0.5
    bare = tmp_path / "bare.safetensors"
    state_dict_files.write_safetensors(bare, qmra_jax.weights.to_torch(variables), {})
    out = tmp_path / "out.safetensors"
    command = ["weights", "convert", bare, out, "--config", config_file(tmp_path)]
    assert run(*command, "--dtype", "float16") == 0
    _, converted, config = qmra_jax.load(out)
    assert config.key_dim == TINY["key_dim"]
    assert (converted["params"]["qma1"]["fc1"]["bias"] == 0.5).all()
    assert state_dict_files.read_state(out)["qma1.fc1.bias"].dtype == np.float16
    capsys.readouterr()
    assert "exists" in refused(capsys, *command)


def test_weights_convert_refuses_another_models_state_and_config(tmp_path, weights, capsys):
    other = tmp_path / "other.safetensors"
    state_dict_files.write_safetensors(other, {"conv1.weight": np.zeros(3, np.float32)}, {})
    out = tmp_path / "out.safetensors"
    config = config_file(tmp_path)
    assert "conv1.weight" in refused(capsys, "weights", "convert", other, out, "--config", config)
    absent = tmp_path / "absent.py"
    assert str(absent) in refused(capsys, "weights", "convert", weights, out, "--config", absent)
    empty = tmp_path / "empty.py"
    empty.write_text("")
    assert "get_config" in refused(capsys, "weights", "convert", weights, out, "--config", empty)
    assert not out.exists()


def test_weights_export_takes_a_runs_checkpoint(tmp_path, weights, capsys, monkeypatch):
    _, variables, config = qmra_jax.load(weights)
    asked = []

    def restore_model(workdir, step=None):
        asked.append((workdir, step))
        whole = type(config)({"model": config})
        return whole, variables

    monkeypatch.setattr("qmra_jax.training.checkpoint.restore_model", restore_model)
    out = tmp_path / "out.safetensors"
    command = ["weights", "export", "runs/tiny", out, "--step", "70", "--dtype", "bfloat16"]
    command += ["--short-side", "32"]
    assert run(*command) == 0
    assert read_metadata(out)["short_side"] == "32"
    assert asked == [(Path("runs/tiny"), 70)]
    assert json.loads(read_metadata(out)["model"])["key_dim"] == TINY["key_dim"]
    capsys.readouterr()
    assert "exists" in refused(capsys, *command)
    assert len(asked) == 1  # and nothing was restored for it


@pytest.mark.parametrize(
    ("metadata", "options", "seen"),
    [
        ({"short_side": "32"}, (), 32),
        ({"short_side": "32"}, ("--short-side", 40), 40),
        ({"short_side": "32"}, ("--short-side", 0), None),
        ({}, (), 480),
    ],
)
def test_the_weights_say_which_frame_size_suits_them(
    tmp_path, clip, weights, bright, metadata, options, seen
):
    _, variables, config = qmra_jax.load(weights)
    qmra_jax.save(tmp_path / "w.safetensors", variables, config, metadata=metadata)
    command = ["segment", clip, "--box", "0,16,16,16", "--weights", tmp_path / "w.safetensors"]
    assert run(*command, "--output", tmp_path / "out", *options) == 0
    assert bright[0].settings["short_side"] == seen


def test_weights_export_refuses_a_folder_without_a_run(tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert str(tmp_path) in refused(capsys, "weights", "export", tmp_path, out)
    assert not out.exists()
