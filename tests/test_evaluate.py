"""evaluate.py from its command line: results of each dataset, resuming, sharding, bad input."""

import json
import sys
import threading
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

import evaluate
import qmra_jax
from data_pipeline import eval_videos
from qmra_jax import masks, weights
from qmra_jax.evaluation import segmenter
from qmra_jax.images import read_image
from qmra_jax.inference.propagator import Propagator
from qmra_jax.network.structures import InferenceSettings
from tests.support.datasets import add_video, add_youtube_video, labels
from tests.support.tiny import TINY
from tests.support.toy_network import VARIABLES, ToyNetwork

TOY = ToyNetwork()


@pytest.fixture
def folder(tmp_path):
    """Videos `long`, of 5 frames, and `short`, of 4, with two objects in every mask."""
    for name, length in (("short", 4), ("long", 5)):
        add_video(tmp_path / "mine", name, [labels((1, 2), (2, 20))] * length, split=None)
    return tmp_path / "mine"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the command line; returns its output, or its last line of errors for a `status`.

    Weights are those of a toy network, whose file "N.toy" holds nothing.
    """
    load = weights.load

    def load_toy(path):
        if path.suffix != ".toy":
            return load(path)
        return TOY, {"gain": np.float32(path.stem)}, {}

    monkeypatch.setattr(weights, "load", load_toy)

    def run(
        data_dir,
        *arguments,
        weights="8.toy",
        dataset="folder",
        output=tmp_path / "out",
        status=None,
    ):
        options = [f"--weights={weights}", f"--dataset={dataset}", f"--data_dir={data_dir}"]
        monkeypatch.setattr(
            sys, "argv", ["evaluate.py", *options, f"--output={output}", *arguments]
        )
        if status is None:
            evaluate.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as stop:
            evaluate.main()
        assert stop.value.code == status
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.fixture
def segmented(monkeypatch):
    """Names of the videos that were segmented, in order."""
    names = []
    segment = segmenter.Segmenter.__call__

    def spy(self, video, folder, tick):
        names.append(video.name)
        return segment(self, video, folder, tick)

    monkeypatch.setattr(segmenter.Segmenter, "__call__", spy)
    return names


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    """Both simulated devices; evaluate.py sees only one, as each device compiles everything."""
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    return devices


def read(path):
    return json.loads(path.read_text())


def test_a_folder_gets_masks_scores_and_tables(run, folder, tmp_path, tiny_model, tiny_variables):
    weights_file = tmp_path / "tiny.safetensors"
    weights.save(weights_file, tiny_variables, TINY)
    printed = run(folder, "--interval=2", "--start=mask", weights=weights_file)
    scores = read(tmp_path / "out/scores.json")
    assert "| long" in printed
    assert scores["split"] == "all"
    assert scores["objects"] == 4
    assert scores["fps"] > 0
    assert set(scores["sequences"]["long"]["objects"]) == {"1", "2"}
    assert (scores["start"], scores["interval"], scores["dtype"]) == ("mask", 2, "float32")
    assert (tmp_path / "out/per-sequence_results-all.csv").exists()

    (video,) = eval_videos.find_eval_videos(folder, "folder", names=["short"]).videos
    propagator = Propagator(tiny_model, tiny_variables, interval=2)
    start = video.starts[0]
    first, *later = map(read_image, video.frames)
    expected = [propagator.start(first, masks=start.read(), ids=start.ids)]
    expected += map(propagator.step, later)
    paths = sorted((tmp_path / "out/Annotations/short").iterdir())
    assert [path.name for path in paths] == [f"{k:05d}.png" for k in range(4)]
    for path, result in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(masks.read_labels(path), result.labels)

    # QMRA uses only the tight box of a mask.
    boxes = tmp_path / "boxes"
    run(folder, "--interval=2", "--sequences", "short", weights=weights_file, output=boxes)
    for path in paths:
        assert path.read_bytes() == (boxes / "Annotations/short" / path.name).read_bytes()
    assert read(boxes / "scores.json")["subset"] == {"scored": 1, "of": 2}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (16, 3, 7)),
        (("--short_side=0", "--interval=2", "--max_memory=0"), (0, 2, 0)),
        (("--no-extra_frames",), (16, 3, 2)),
    ],
)
def test_settings_are_the_weights_own_unless_given(
    run, folder, tmp_path, monkeypatch, options, expected
):
    settings = InferenceSettings(short_side=16, interval=3, max_memory=7)
    monkeypatch.setattr(ToyNetwork, "inference", settings)
    run(folder, "--sequences", "short", *options)
    made_with = read(tmp_path / "out/sequences/short.json")["made_with"]
    assert tuple(made_with[name] for name in ("short_side", "interval", "max_memory")) == expected


def test_youtube_vos_is_packed_for_the_server_with_the_original_ids(run, tmp_path):
    listed = ("00005", "00010", "00020")
    first = {"00005": labels((2, 8)), "00010": labels((2, 8), (5, 24))}
    add_youtube_video(tmp_path / "yt/valid", "v", {2: listed, 5: listed[1:]}, first)
    still, *others = sorted((tmp_path / "yt/valid/JPEGImages/v").iterdir())
    for frame in others:
        frame.write_bytes(still.read_bytes())
    printed = run(tmp_path / "yt", dataset="youtube_vos")
    assert "no scores: video v" in printed
    assert not (tmp_path / "out/scores.json").exists()
    assert read(tmp_path / "out/sequences/v.json")["made_with"]["interval"] == 5
    with zipfile.ZipFile(tmp_path / "out/results.zip") as archive:
        names = [f"Annotations/v/{name}.png" for name in listed]
        assert archive.namelist() == names
        made = [Image.open(archive.open(name)) for name in names]
    assert [image.mode for image in made] == ["P"] * 3
    present = [set(np.unique(image)) for image in made]
    assert present[0] <= {0, 2}
    assert {2, 5} <= present[1]
    assert set.union(*present) <= {0, 2, 5}


def test_an_interrupted_run_resumes_with_the_unfinished_sequences(
    run, folder, tmp_path, segmented, monkeypatch
):
    segment = segmenter.Segmenter.__call__

    def interrupted(self, video, folder, tick):
        if video.name == "short":
            masks.write_labels(folder / "00000.png", labels())
            raise KeyboardInterrupt
        return segment(self, video, folder, tick)

    with monkeypatch.context() as patch:
        patch.setattr(segmenter.Segmenter, "__call__", interrupted)
        assert "resume" in run(folder, status=130)
    assert not read(tmp_path / "out/sequences/short.json")["finished"]
    assert not (tmp_path / "out/scores.json").exists()

    segmented.clear()
    assert "1 of 2 sequences are already finished" in run(folder)
    assert segmented == ["short"]
    assert set(read(tmp_path / "out/scores.json")["sequences"]) == {"short", "long"}
    before = read(tmp_path / "out/scores.json")
    run(folder)
    assert segmented == ["short"]
    assert read(tmp_path / "out/scores.json") == before

    # A sequence with a lost mask is made again; one with changed frames is a conflict.
    (tmp_path / "out/Annotations/long/00003.png").unlink()
    run(folder)
    assert segmented == ["short", "long"]
    (folder / "JPEGImages/480p/long/00002.png").touch()
    error = run(folder, status=2)
    assert "sequence long was made with other frames" in error
    run(folder, "--overwrite")
    assert segmented == ["short", "long", "long"]


@pytest.mark.parametrize("option", ["--interval=0", "--max_memory=1", "--short_side=3"])
def test_an_invalid_option_is_refused_before_results_are_changed(run, folder, tmp_path, option):
    assert option.strip("-").replace("=", " ") in run(folder, option, status=2)
    assert not (tmp_path / "out").exists()
    scores = tmp_path / "out/scores.json"
    scores.parent.mkdir()
    scores.write_text('{"sequences": {}}')
    run(folder, option, "--overwrite", status=2)
    assert scores.exists()


@pytest.mark.parametrize("damaged", [True, False])
def test_a_changed_mask_is_refused_or_overwritten(run, folder, tmp_path, segmented, damaged):
    run(folder)
    mask = tmp_path / "out/Annotations/short/00002.png"
    written = mask.read_bytes()
    if damaged:
        mask.write_bytes(b"xx")
    else:
        masks.write_labels(mask, labels((1, 8)))
    error = run(folder, status=2)
    assert "sequence short" in error
    assert "00002.png" in error
    assert "--overwrite" in error
    run(folder, "--overwrite")
    assert segmented == ["long", "short", "short"]
    assert mask.read_bytes() == written
    assert "2 of 2 sequences are already finished" in run(folder)


def test_results_with_other_settings_are_refused_with_the_difference(
    run, folder, tmp_path, segmented, monkeypatch
):
    run(folder, "--interval=3")
    error = run(folder, "--interval=4", status=2)
    assert "interval 3 instead of 4 (and 1 more)" in error
    assert "--overwrite" in error
    assert "other weights" in run(folder, "--interval=3", weights="9.toy", status=2)
    error = run(folder, "--interval=3", "--sequences", "short", status=2)
    assert "scores of long" in error  # which would be lost

    with monkeypatch.context() as upgraded:
        upgraded.setattr(evaluate, "__version__", "9.9")
        error = run(folder, "--interval=3", status=2)
    assert f"version {qmra_jax.__version__} instead of 9.9" in error
    record = tmp_path / "out/sequences/long.json"
    original = record.read_text()
    record.write_text(original.replace('"platform": "cpu"', '"platform": "gpu"'))
    assert "platform gpu instead of cpu" in run(folder, "--interval=3", status=2)
    record.write_text(original)
    assert len(segmented) == 2

    run(folder, "--interval=4", "--overwrite")
    assert len(segmented) == 4
    assert read(tmp_path / "out/scores.json")["interval"] == 4

    masks.write_labels(tmp_path / "theirs/Annotations/short/00000.png", labels())
    assert "sequence short" in run(folder, output=tmp_path / "theirs", status=2)
    assert "the dataset itself" in run(folder, output=folder, status=2)


def test_the_last_shard_to_finish_scores(run, folder, tmp_path, segmented):
    assert "1 of 2 sequences are left to other shards" in run(folder, "--shard=2/2")
    assert segmented == ["short"]
    assert not (tmp_path / "out/scores.json").exists()
    assert "| mean of 4 objects" in run(folder, "--shard=1/2")
    assert segmented == ["short", "long"]
    assert set(read(tmp_path / "out/scores.json")["sequences"]) == {"short", "long"}
    assert "shard '3/2'" in run(folder, "--shard=3/2", status=2)


def test_videos_are_distributed_over_devices_longest_first(folder, devices):
    used = {}
    both = threading.Barrier(2, timeout=60)

    def work(segment, video, tick):
        both.wait()
        assert len(list(segment.frames(video))) == len(video.frames)
        result = segment.propagator.step(read_image(video.frames[-1]))
        used[video.name] = result.probabilities.devices()

    videos = eval_videos.find_eval_videos(folder, "folder").videos
    make = segmenter.make_segmenter(TOY, VARIABLES)
    segmenter.over_devices(videos, make, work, devices)
    assert set.union(*used.values()) == set(devices)
    assert [v.name for v in segmenter.longest_first(videos)] == ["long", "short"]
    assert [segmenter.shard(videos, k, 2)[0].name for k in (1, 2)] == ["long", "short"]


def test_an_error_stops_all_devices_at_their_next_frame(folder, devices):
    def work(device, video, tick):
        if video.name == "short":
            raise ZeroDivisionError
        while True:
            tick()

    videos = eval_videos.find_eval_videos(folder, "folder").videos
    with pytest.raises(ZeroDivisionError):
        segmenter.over_devices(videos, lambda device: device, work, devices)


def test_truncated_frames_are_all_named_before_anything_is_segmented(
    run, folder, tmp_path, segmented
):
    run(folder, "--sequences", "short")
    bad = [folder / f"JPEGImages/480p/{name}.png" for name in ("long/00001", "long/00004")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])  # the header is whole
    error = run(folder, "--overwrite", status=2)
    assert "2 of 5 frames" in error  # the finished sequence is not checked again
    assert all(str(path) in error for path in bad)
    assert "--skip_bad" in error
    assert segmented == ["short"]
    assert (tmp_path / "out/scores.json").exists()
    run(folder, "--overwrite", "--skip_bad")
    assert segmented == ["short", "long"]

    start = folder / "JPEGImages/480p/long/00000.png"
    start.write_bytes(start.read_bytes()[:60])
    error = run(folder, "--overwrite", "--skip_bad", status=2)
    assert f"1 of 1 frames are cut short or cannot be read: {start}" in error


def damage(path):
    """Zeros between the header and the end, which are all that is checked beforehand."""
    data = path.read_bytes()
    path.write_bytes(data[:41] + bytes(len(data) - 53) + data[-12:])


def test_an_unreadable_frame_is_an_error_or_gets_the_previous_mask(run, folder, tmp_path):
    bad = folder / "JPEGImages/480p/short/00002.png"
    damage(bad)
    error = run(folder, "--sequences", "short", status=2)
    assert "frame 2" in error
    assert str(bad) in error
    assert "--skip_bad" in error
    assert "00002.png" in run(folder, "--sequences", "short", "--skip_bad")
    annotations = tmp_path / "out/Annotations/short"
    assert (annotations / "00002.png").read_bytes() == (annotations / "00001.png").read_bytes()
    assert read(tmp_path / "out/scores.json")["carried"] == {"short": ["00002.png"]}
    error = run(folder, "--sequences", "short", status=2)
    assert "00002.png" in error
    assert "--skip_bad" in error

    damage(folder / "JPEGImages/480p/short/00000.png")
    error = run(folder, "--sequences", "short", "--skip_bad", "--overwrite", status=2)
    assert "frame 0" in error
    assert "cannot be skipped" in error


def test_a_frame_of_another_size_is_named(run, folder):
    (folder / "Annotations/480p/short/00002.png").unlink()  # whose size is compared first
    odd = folder / "JPEGImages/480p/short/00002.png"
    Image.new("RGB", (44, 32)).save(odd)
    error = run(folder, "--sequences", "short", status=2)
    assert f"{odd}: frame 2 is 44x32, the first one 40x32" in error
