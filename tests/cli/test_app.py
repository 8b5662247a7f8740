"""The `qmra` command: promised files are written; bad input is one line and changes nothing."""

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
from configs import small
from qmra_jax.boxes import mask_to_box
from qmra_jax.cli import options as cli_options
from qmra_jax.inference.memory_bank import Slots
from qmra_jax.inference.propagator import FrameResult
from qmra_jax.masks import read_labels, write_labels
from qmra_jax.network.build import variable_shapes
from qmra_jax.video.reader import VideoReader
from qmra_jax.weights import state_dict_files
from qmra_jax.weights.safetensors_model import SETTINGS
from qmra_jax.weights.state_dict_files import read_metadata
from tests.support.commands import qmra, refused
from tests.support.processes import complaints
from tests.support.tiny import TINY
from tests.support.videos import write_video

ROOT = Path(__file__).parents[2]
_load = functools.cache(qmra_jax.weights.load)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The file of a tiny network whose weights are zeros."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = small.get_config().model
    config.update({k: v for k, v in TINY.items() if k != "backbone"})
    shapes = variable_shapes(qmra_jax.build_model(config))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    qmra_jax.save(path, variables, config, metadata={"trained": "never"})
    return path


class Bright:
    """A stand-in for the network: the object is what is bright; a dark frame has none."""

    def __init__(self, module, variables, **settings):
        self.settings = {"dtype": module.dtype, **settings}
        self.enlarge, self.short_side = settings["enlarge"], settings["short_side"]
        self.entered = []  # (ids, boxes) of each call that adds objects

    def start(self, frame, boxes=None, *, masks=None, ids):
        self.ids: tuple[int, ...] = ()
        return self.step(frame, boxes, masks=masks, ids=ids)._replace(seconds=None)  # it compiled

    def step(self, frame, boxes=None, *, masks=None, ids=()):
        boxes = boxes if masks is None else mask_to_box(masks)
        if boxes is not None:
            self.entered.append((ids, boxes.tolist()))
        self.ids = tuple(sorted((*self.ids, *ids)))
        mask = frame.min(axis=-1) > 128
        boxes = np.zeros((len(self.ids), 4), np.int32)
        boxes[0] = mask_to_box(mask)
        probabilities = np.full((len(self.ids) + 1, *mask.shape), 0.75, np.float32)
        labels = mask * np.uint8(self.ids[0])
        return FrameResult(labels, boxes, 0.25, probabilities=probabilities, ids=self.ids)


@pytest.fixture
def bright(monkeypatch):
    """Replaces the network by `Bright`; the list of those made."""
    made = []
    monkeypatch.setattr("qmra_jax.weights.safetensors_model.load", _load)

    def make(*arguments, **settings):
        made.append(Bright(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr("qmra_jax.inference.propagator.Propagator", make)
    return made


def moving_square():
    """Six 48x64 frames: a white square moves right by 8 pixels per frame, and leaves the last."""
    frames = np.full((6, 48, 64, 3), 40, np.uint8)
    for t in range(5):
        frames[t, 16:32, 8 * t : 8 * t + 16] = 250
    return frames


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_video(tmp_path / "clip.mp4", moving_square(), fps=12)


@pytest.fixture
def folder(tmp_path) -> Path:
    """The same frames as 0.png, 1.png, ..."""
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(moving_square()):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t}.png")
    return tmp_path / "frames"


@pytest.fixture
def command(clip, weights):
    """`qmra segment` on the clip, but for the output."""
    return ["segment", clip, "--box", "0,16,16,16", "--weights", weights]


def boxes_csv(output):
    return list(csv.reader((output / "boxes.csv").open()))


WEIGHTS_COMMANDS = [
    "weights",
    *(f"weights {c}" for c in ("show", "export", "average", "convert")),
    *(f"weights import-{c}" for c in ("stm", "dinov2")),
]


@pytest.mark.parametrize("name", ["", "segment", "explain", "score", *WEIGHTS_COMMANDS])
def test_help_has_examples(capsys, name):
    assert qmra(*name.split(), "--help") == 0
    help_text = capsys.readouterr().out
    assert "Example" in help_text
    assert f"  qmra {name}".rstrip() + " " in help_text


def test_the_version_is_shown(capsys):
    assert qmra("--version") == 0
    assert capsys.readouterr().out == f"qmra {qmra_jax.__version__}\n"


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from qmra_jax import cli\n"
        "try: cli.main(['segment', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'flax', 'tensorflow', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_bad_input_ends_the_process_with_status_2():
    arguments = ["segment", "absent.mp4", "--box", "1,2,3,4", "--output", "out"]
    program = [sys.executable, "-m", "qmra_jax"]
    done = subprocess.run([*program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert complaints(done).count("\n") == 1
    assert complaints(done).startswith("error: absent.mp4 ")


def test_segment_writes_masks_boxes_and_an_overlay(tmp_path, command, bright, capsys):
    output = tmp_path / "out"
    options = ["--box", "40,0,8,8", "--interval", 5, "--short-side", 32]
    assert qmra(*command, *options, "--output", output) == 0
    masks = sorted((output / "masks").iterdir())
    assert [path.name for path in masks] == [f"0000{t}.png" for t in range(6)]
    with Image.open(masks[0]) as image:
        assert image.mode == "P"
    for t in range(5):
        assert read_labels(masks[t])[20, 8 * t + 8] == 1
    assert not read_labels(masks[5]).any()

    rows = boxes_csv(output)
    assert rows[0] == ["frame", "object", "x", "y", "width", "height"]
    assert [row[:2] for row in rows[1:]] == [[str(t), str(n)] for t in range(6) for n in (1, 2)]
    assert rows[1 + 2 * 3][2:] == ["24", "16", "16", "16"]
    assert rows[1 + 2 * 5][2:] == [""] * 4  # it has left
    assert all(row[2:] == [""] * 4 for row in rows[2::2])  # the second object is never seen

    shown = VideoReader(output / "overlay.mp4")
    assert (shown.size, shown.fps, shown.count) == ((48, 64), 12, 6)
    red, green, _ = shown.frame(2)[24, 24].astype(int)
    assert red > green + 40
    assert np.abs(shown.frame(5).astype(int) - 40).max() < 12

    printed = capsys.readouterr().out
    assert all(text in printed for text in ("6 frames", "4.00 frames/s", f"{output}/overlay.mp4"))


def test_segment_runs_the_network(tmp_path, weights):
    clip = write_video(tmp_path / "clip.mp4", moving_square()[:4, 8:40, :48], fps=12)
    output = tmp_path / "out"
    options = ["--box", "8,8,16,16", "--frame", 1, "--interval", 2, "--weights", weights]
    assert qmra("segment", clip, *options, "--output", output) == 0
    masks = sorted((output / "masks").iterdir())
    assert [path.name for path in masks] == [f"0000{t}.png" for t in range(4)]
    assert all(read_labels(path).shape == (32, 48) for path in masks)
    assert boxes_csv(output)[2] == ["1", "1", "8", "8", "16", "16"]  # as drawn
    assert VideoReader(output / "overlay.mp4").count == 4


def test_options_choose_the_outputs(tmp_path, command, bright, capsys):
    output = tmp_path / "all"
    more = ["--mot", "--coco", "--cutout", "png,webm"]
    names = ["boxes.csv", "coco.json", "cutout", "cutout.webm", "masks", "mot.txt", "overlay.mp4"]
    assert qmra(*command, "--output", output, *more) == 0
    assert sorted(path.name for path in output.iterdir()) == names
    printed = capsys.readouterr().out
    assert all(str(output / name) in printed for name in names)
    fewer = ["--no-masks", "--no-overlay", "--no-boxes", "--mot"]
    assert qmra(*command, "--output", output, *fewer, "--overwrite") == 0
    assert [path.name for path in output.iterdir()] == ["mot.txt"]  # nothing stale


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ((), {}),
        (("--interval", 5, "--max-memory", 7), {"interval": 5, "max_memory": 7}),
        (("--max-memory", 0), {"max_memory": 0}),
        (("--short-side", 64, "--enlarge"), {"short_side": 64, "enlarge": True}),
        (
            ("--merge", "soft_aggregation", "--dtype", "bfloat16"),
            {"merge": "soft_aggregation", "dtype": "bfloat16"},
        ),
    ],
)
def test_options_reach_the_network(tmp_path, command, bright, options, changed, capsys):
    assert qmra(*command, "--output", tmp_path / "out", *options) == 0
    default = dict.fromkeys(("interval", "short_side", "enlarge", "max_memory"))
    default |= {"merge": "softmax", "dtype": "float32"}
    assert bright[0].settings == default | changed
    printed = capsys.readouterr()
    assert "object 1 in 5" in printed.out
    assert ("--no-enlarge" in printed.err) == ("--enlarge" in options)


def test_the_default_memory_bound_affects_long_videos_alone():
    bounded, unbounded = Slots(10, SETTINGS.max_memory), Slots(10)
    assert max(bounded.capacities(2000)) == 20
    for number in range(1, 191):
        assert bounded.extras == unbounded.extras
        bounded.place(number)
        unbounded.place(number)
    assert bounded.extras != unbounded.extras


def test_mask_labels_become_ids_and_boxes_take_free_ones(tmp_path, command, bright):
    labels = np.zeros((48, 64), np.uint8)
    labels[16:32, 8:24], labels[2:6, 40:50], labels[40:, :] = 2, 5, 255
    write_labels(tmp_path / "start.png", labels)
    command[2:4] = ["--mask", tmp_path / "start.png", "--frame", 1]
    command += ["--box", "1,2,3,4", "--box", "5,6,7,8@3"]
    assert qmra(*command, "--output", tmp_path / "out") == 0
    first = ((2, 5, 1), [[8, 16, 16, 16], [40, 2, 10, 4], [1, 2, 3, 4]])
    later = ((3,), [[5, 6, 7, 8]])
    assert bright[0].entered == [first, first, later]  # backwards, then forwards
    rows = boxes_csv(tmp_path / "out")[1:]
    ids = [[row[1] for row in rows if row[0] == str(t)] for t in range(6)]
    assert ids == [["1", "2", "5"]] * 3 + [["1", "2", "3", "5"]] * 3


def test_missing_numbers_of_a_folder_are_reported(tmp_path, folder, weights, bright, capsys):
    (folder / "2.png").unlink()
    options = ["--box", "0,0,999,9", "--weights", weights]  # the box leaves the frame
    assert qmra("segment", folder, *options, "--output", tmp_path / "out") == 2
    assert "1.png and 3.png" in capsys.readouterr().err


def test_a_damaged_frame_ends_the_run_unless_skipped(tmp_path, folder, weights, bright, capsys):
    (folder / "3.png").write_bytes(b"torn")
    output = tmp_path / "out"
    command = ["segment", folder, "--box", "0,16,16,16", "--weights", weights, "--output", output]
    assert qmra(*command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: frame 3, image ")
    assert "--skip-bad" in line
    assert str(output) in line
    assert len(list((output / "masks").iterdir())) == 3
    assert qmra(*command, "--overwrite", "--skip-bad") == 0
    assert "1 frame " in capsys.readouterr().err
    assert len(list((output / "masks").iterdir())) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--box", "1,2,3"], ["1,2,3", "x,y,width,height"]),
        (["--box", "60,0,5,5"], ["60,0,5,5", "64", "48"]),
        (["--box", "0,0,5,5", "--box", "0,44,5,5"], ["0,44,5,5"]),
        (["--box", "0,0,5,5", "--frame", "6"], ["frame 6", "6 frames", "0 to 5"]),
        (["--box", "0,0,5,5", "--box", "0,0,5,5@6"], ["frame 6", "6 frames", "0 to 5"]),
        (["--box", "0,0,5,5@"], ["0,0,5,5@", "@30"]),
        ([], ["--box", "--mask"]),
        (["--mask", "absent.png"], ["absent.png"]),
        (
            ["--box", "0,0,5,5", "--no-masks", "--no-overlay", "--no-boxes"],
            ["masks", "cutout-webm"],
        ),
    ],
)
def test_bad_requests_are_refused(tmp_path, clip, weights, bright, capsys, arguments, words):
    output = tmp_path / "out"
    line = refused(capsys, "segment", clip, *arguments, "--weights", weights, "--output", output)
    assert all(word in line for word in words)
    assert not output.exists()
    assert not bright


@pytest.mark.parametrize("command", ["segment", "explain"])
@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--short-side", 15, "--short-side 15: expected at least 16 pixels, or 0"),
        ("--short-side", -1, "--short-side -1: expected at least 16"),
        ("--max-memory", 1, "--max-memory 1: expected at least 2 frames, or 0"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_read(capsys, command, option, value, named):
    frame = ["--frame", 3] if command == "explain" else []
    arguments = [command, "absent.mp4", "--output", "o.png", *frame, option, value]
    assert named in refused(capsys, *arguments)


def test_missing_or_foreign_weights_are_refused(tmp_path, command, capsys, monkeypatch):
    absent, text = tmp_path / "absent.safetensors", tmp_path / "text.safetensors"
    text.write_text("no weights")
    command = [*command[:-2], "--output", tmp_path / "out"]
    for path in (absent, text):
        assert str(path) in refused(capsys, *command, "--weights", path)
    monkeypatch.setattr(cli_options, "DEFAULT_WEIGHTS", absent)
    assert "--weights FILE" in refused(capsys, *command)
    assert not (tmp_path / "out").exists()


def test_earlier_results_are_replaced_only_when_asked(tmp_path, command, bright, capsys):
    output = tmp_path / "out"
    write_labels(output / "masks" / "00099.png", np.ones((4, 4), np.uint8))  # of a longer video
    (output / "notes.txt").write_text("mine")
    assert str(output) in refused(capsys, *command, "--output", output)
    assert (output / "masks" / "00099.png").exists()
    assert qmra(*command, "--output", output, "--overwrite") == 0
    assert len(list((output / "masks").iterdir())) == 6
    assert not (output / "masks" / "00099.png").exists()
    assert (output / "notes.txt").read_text() == "mine"


def test_weights_show_lists_parameters_dtype_and_config(weights, capsys):
    assert qmra("weights", "show", weights) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: words[1] for words in lines if len(words) == 2}
    _, variables, _ = _load(weights)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert shown["parameters"] == f"{count:,}"
    assert shown["trained"] == "never"
    assert shown["backbone"] == TINY["backbone"]
    assert shown["key_dim"] == "8"
    assert "float32" in shown["stored"]


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "tiny.py"
    path.write_text(
        "from configs import small\n"
        "def get_config():\n"
        "    config = small.get_config()\n"
        f"    config.model.update({TINY!r})\n"
        "    return config\n"
    )
    return path


def test_weights_convert_reads_a_bare_state_dict(tmp_path, weights, config_file, capsys):
    _, variables, _ = qmra_jax.load(weights)
    variables["params"]["qma1"]["fc1"]["bias"] += 0.5
    bare = tmp_path / "bare.safetensors"
    state_dict_files.write_safetensors(bare, qmra_jax.weights.to_torch(variables), {})
    out = tmp_path / "out.safetensors"
    command = ["weights", "convert", bare, out, "--config", config_file]
    assert qmra(*command, "--dtype", "float16") == 0
    _, converted, config = qmra_jax.load(out)
    assert config.key_dim == TINY["key_dim"]
    assert (converted["params"]["qma1"]["fc1"]["bias"] == 0.5).all()
    assert state_dict_files.read_state(out)["qma1.fc1.bias"].dtype == np.float16
    assert str(out) in refused(capsys, *command)


def test_weights_convert_refuses_foreign_states_and_configs(tmp_path, weights, config_file, capsys):
    other, out = tmp_path / "other.safetensors", tmp_path / "out.safetensors"
    state_dict_files.write_safetensors(other, {"conv1.weight": np.zeros(3, np.float32)}, {})
    absent, empty = tmp_path / "absent.py", tmp_path / "empty.py"
    empty.write_text("")
    for source, config, named in (
        (other, config_file, "conv1.weight"),
        (weights, absent, str(absent)),
        (weights, empty, "get_config"),
    ):
        assert named in refused(capsys, "weights", "convert", source, out, "--config", config)
    assert not out.exists()


def test_weights_export_takes_a_runs_checkpoint(tmp_path, weights, capsys, monkeypatch):
    _, variables, config = _load(weights)
    asked = []

    def restore_model(workdir, step=None):
        asked.append((workdir, step))
        return type(config)({"model": config}), variables

    monkeypatch.setattr("qmra_jax.training.checkpoint.restore_model", restore_model)
    out = tmp_path / "out.safetensors"
    command = ["weights", "export", "runs/tiny", out, "--step", "70", "--dtype", "bfloat16"]
    assert qmra(*command, "--short-side", "32") == 0
    assert asked == [(Path("runs/tiny"), 70)]
    assert read_metadata(out)["short_side"] == "32"
    assert json.loads(read_metadata(out)["model"])["key_dim"] == TINY["key_dim"]
    assert str(out) in refused(capsys, *command)
    assert len(asked) == 1  # it restored nothing


def test_weights_export_refuses_a_folder_without_a_run(tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert str(tmp_path) in refused(capsys, "weights", "export", tmp_path, out)
    assert not out.exists()
