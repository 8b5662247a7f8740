"""evaluate.py, from the command line on: each dataset's results, going on, sharding, bad input."""

import importlib.metadata
import json
import sys
import threading
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

import evaluate
from data_pipeline import eval_videos
from qmra_jax import masks, weights
from qmra_jax.errors import InputError
from qmra_jax.evaluation import segmenter as evaluation
from qmra_jax.evaluation.submission import write_zip
from qmra_jax.images import read_image
from qmra_jax.inference.propagator import Propagator
from tests.support.datasets import add_video, add_youtube_video, labels
from tests.support.tiny import TINY


@pytest.fixture(scope="module")
def weights_file(tiny_variables, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(path, tiny_variables, TINY)
    return path


@pytest.fixture
def folder(tmp_path):
    """One's own videos, long, of 5 frames, and short, of 4; each with two objects in every mask."""
    for name, length in (("short", 4), ("long", 5)):
        add_video(tmp_path / "mine", name, [labels((1, 2), (2, 20))] * length, split=None)
    return tmp_path / "mine"


@pytest.fixture
def run(monkeypatch, weights_file, capsys, tmp_path):
    """Runs the command line; gives what it printed."""

    def run(data_dir, *arguments, dataset="folder", output=tmp_path / "out", status=None):
        given = [f"--weights={weights_file}", f"--dataset={dataset}", f"--data_dir={data_dir}"]
        argv = ["evaluate.py", *given, f"--output={output}", *arguments]
        monkeypatch.setattr(sys, "argv", argv)
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
    """The names of the videos that were segmented, as they were begun."""
    names = []
    segment = evaluation.Segmenter.__call__

    def spy(self, video, folder, tick):
        names.append(video.name)
        return segment(self, video, folder, tick)

    monkeypatch.setattr(evaluation.Segmenter, "__call__", spy)
    return names


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    """Both simulated devices; evaluate.py is shown but one, as each compiles everything anew."""
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    return devices


def read(path):
    return json.loads(path.read_text())


def frame_by_frame(model, variables, video, interval):
    """The label maps of a folder's frames, by Propagator alone."""
    propagator = Propagator(model, variables, interval=interval)
    found = []
    for index, path in enumerate(video.frames):
        start = video.starts.get(index)
        given = {"masks": start.read(), "ids": start.ids} if start else {}
        go = propagator.step if index else propagator.start
        found.append(go(read_image(path), **given).labels)
    return found


def test_masks_scores_and_tables_of_a_folder_are_written(
    run, folder, tmp_path, tiny_model, tiny_variables
):
    printed = run(folder, "--interval=2", "--start=mask")
    scores = read(tmp_path / "out/scores.json")
    assert "| long" in printed
    assert scores["split"] == "all"
    assert scores["objects"] == 4
    assert scores["fps"] > 0
    assert set(scores["sequences"]["long"]["objects"]) == {"1", "2"}
    assert (scores["start"], scores["interval"], scores["dtype"]) == ("mask", 2, "float32")
    assert (tmp_path / "out/per-sequence_results-all.csv").exists()

    (video,) = eval_videos.find_eval_videos(folder, "folder", names=["short"]).videos
    wanted = frame_by_frame(tiny_model, tiny_variables, video, interval=2)
    assert sorted(p.name for p in (tmp_path / "out/Annotations/short").iterdir()) == [
        f"{k:05d}.png" for k in range(4)
    ]
    for k, expected in enumerate(wanted):
        found = masks.read_labels(tmp_path / f"out/Annotations/short/{k:05d}.png")
        np.testing.assert_array_equal(found, expected)

    # A box says no less: QMRA takes a mask's tight box.
    run(folder, "--interval=2", "--sequences", "short", output=tmp_path / "boxes")
    for path in (tmp_path / "boxes/Annotations/short").iterdir():
        assert path.read_bytes() == (tmp_path / "out/Annotations/short" / path.name).read_bytes()
    assert read(tmp_path / "boxes/scores.json")["subset"] == {"scored": 1, "of": 2}


def test_youtube_vos_is_packed_for_the_server_with_late_objects_under_their_own_ids(run, tmp_path):
    listed = ("00005", "00010", "00020")
    first = {"00005": labels((2, 2)), "00010": labels((2, 2), (5, 24))}
    add_youtube_video(tmp_path / "yt/valid", "v", {2: listed, 5: listed[1:]}, first)
    printed = run(tmp_path / "yt", dataset="youtube_vos")
    assert "no scores: video v has no true masks of 1 of its 3 listed frames" in printed
    assert not (tmp_path / "out/scores.json").exists()
    assert read(tmp_path / "out/sequences/v.json")["made_with"]["interval"] == 5
    with zipfile.ZipFile(tmp_path / "out/results.zip") as archive:
        names = [f"Annotations/v/{name}.png" for name in listed]
        assert archive.namelist() == names
        made = [Image.open(archive.open(name)) for name in names]
    assert [image.mode for image in made] == ["P"] * 3
    present = [set(np.unique(image)) for image in made]
    assert present[0] <= {0, 2}
    assert {2, 5} <= present[1]  # within their boxes even an untrained network finds something
    assert set.union(*present) <= {0, 2, 5}


def test_a_zip_that_lacks_masks_is_refused(tmp_path):
    masks.write_labels(tmp_path / "Annotations/v/00000.png", labels())
    wanted = {"v": ["00000.png", "00005.png"]}
    with pytest.raises(InputError, match=r"lack 1 of the 2 masks .*: v/00005.png"):
        write_zip(tmp_path / "results.zip", tmp_path / "Annotations", wanted)
    assert not (tmp_path / "results.zip").exists()


def test_an_interrupted_run_goes_on_with_what_is_not_finished(
    run, folder, tmp_path, segmented, monkeypatch
):
    segment = evaluation.Segmenter.__call__

    def interrupted(self, video, folder, tick):
        if video.name == "short":
            masks.write_labels(folder / "00000.png", labels())
            raise KeyboardInterrupt
        return segment(self, video, folder, tick)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Segmenter, "__call__", interrupted)
        assert "the same command goes on" in run(folder, status=130)
    assert not read(tmp_path / "out/sequences/short.json")["finished"]
    assert not (tmp_path / "out/scores.json").exists()

    segmented.clear()
    assert "1 of 2 sequences are finished already" in run(folder)
    assert segmented == ["short"]
    assert set(read(tmp_path / "out/scores.json")["sequences"]) == {"short", "long"}
    before = read(tmp_path / "out/scores.json")
    run(folder)
    assert segmented == ["short"]
    assert read(tmp_path / "out/scores.json") == before

    # A mask that was lost is no longer finished, and one of changed frames is never used again.
    (tmp_path / "out/Annotations/long/00003.png").unlink()
    run(folder)
    assert segmented == ["short", "long"]
    (folder / "JPEGImages/480p/long/00002.png").touch()
    told = run(folder, status=2)
    assert "holds results already, sequence long was made with other frames" in told
    run(folder, "--overwrite")
    assert segmented == ["short", "long", "long"]


@pytest.mark.parametrize("option", ["--interval=0", "--max_memory=0", "--short_side=3"])
def test_a_bad_option_is_refused_before_any_result_is_touched(run, folder, tmp_path, option):
    assert "expected at least" in run(folder, option, status=2)
    assert not (tmp_path / "out").exists()
    scores = tmp_path / "out/scores.json"
    scores.parent.mkdir()
    scores.write_text('{"sequences": {}}')
    run(folder, option, "--overwrite", status=2)
    assert scores.exists()


@pytest.mark.parametrize("damaged", [True, False])
def test_a_mask_that_was_changed_is_never_scored_and_is_made_anew_when_asked(
    run, folder, tmp_path, segmented, damaged
):
    run(folder)
    mask = tmp_path / "out/Annotations/short/00002.png"
    written = mask.read_bytes()
    if damaged:
        mask.write_bytes(b"xx")
    else:
        masks.write_labels(mask, labels((1, 8)))
    told = run(folder, status=2)
    assert "sequence short has masks that were changed since (00002.png)" in told
    assert "--overwrite" in told
    run(folder, "--overwrite")
    assert segmented == ["long", "short", "short"]
    assert mask.read_bytes() == written
    assert "2 of 2 sequences are finished already" in run(folder)


def test_results_of_another_command_are_refused_with_what_differs(
    run, folder, tmp_path, segmented, tiny_variables, monkeypatch
):
    run(folder, "--interval=3")
    told = run(folder, "--interval=4", status=2)
    assert "interval 3 there and 4 here (and 1 more)" in told
    assert "--overwrite" in told
    other = jax.tree.map(lambda x: x * 1.01, tiny_variables)
    weights.save(tmp_path / "other.safetensors", other, TINY)
    told = run(folder, "--interval=3", f"--weights={tmp_path / 'other.safetensors'}", status=2)
    assert "was made with other weights" in told
    told = run(folder, "--interval=3", "--sequences", "short", status=2)
    assert "scores of long" in told  # which would be lost
    assert len(segmented) == 2

    with monkeypatch.context() as upgraded:
        upgraded.setattr(importlib.metadata, "version", lambda package: "9.9")
        told = run(folder, "--interval=3", status=2)
    assert f"version {evaluation.package_version()} there and 9.9 here" in told
    record = tmp_path / "out/sequences/long.json"
    made_here = record.read_text()
    record.write_text(made_here.replace('"platform": "cpu"', '"platform": "gpu"'))
    assert "platform gpu there and cpu here" in run(folder, "--interval=3", status=2)
    record.write_text(made_here)
    assert len(segmented) == 2

    run(folder, "--interval=4", "--overwrite")
    assert len(segmented) == 4
    assert read(tmp_path / "out/scores.json")["interval"] == 4

    masks.write_labels(tmp_path / "theirs/Annotations/short/00000.png", labels())
    told = run(folder, output=tmp_path / "theirs", status=2)
    assert "sequence short has masks of unknown making" in told


def test_shards_make_their_part_and_the_last_one_scores(run, folder, tmp_path, segmented):
    assert "1 of 2 sequences are left to other shards" in run(folder, "--shard=2/2")
    assert segmented == ["short"]
    assert not (tmp_path / "out/scores.json").exists()
    assert "| mean of 4 objects" in run(folder, "--shard=1/2")
    assert segmented == ["short", "long"]
    assert set(read(tmp_path / "out/scores.json")["sequences"]) == {"short", "long"}
    assert "expected I/N, such as 1/4" in run(folder, "--shard=3/2", status=2)


def test_every_device_takes_videos_the_longest_first(folder, tiny_model, tiny_variables, devices):
    taken = {}
    both = threading.Barrier(2, timeout=60)

    def work(segmenter, video, tick):
        both.wait()
        assert len(list(segmenter.frames(video))) == len(video.frames)
        result = segmenter.propagator.step(read_image(video.frames[-1]))
        taken[video.name] = result.probabilities.devices()

    videos = eval_videos.find_eval_videos(folder, "folder").videos
    make = evaluation.make_segmenter(tiny_model, tiny_variables)
    evaluation.over_devices(videos, make, work, devices)
    assert set.union(*taken.values()) == set(devices)
    assert [v.name for v in evaluation.longest_first(videos)] == ["long", "short"]
    shards = [evaluation.shard(videos, k, 2)[0].name for k in (1, 2)]
    assert shards == ["long", "short"]


def test_an_error_stops_all_devices_at_their_next_frame(folder, devices):
    def work(device, video, tick):
        if video.name == "short":
            raise ZeroDivisionError
        while True:
            tick()

    videos = eval_videos.find_eval_videos(folder, "folder").videos
    with pytest.raises(ZeroDivisionError):
        evaluation.over_devices(videos, lambda device: device, work, devices)


def test_frames_that_are_cut_short_are_all_named_before_anything_is_made(
    run, folder, tmp_path, segmented
):
    run(folder, "--sequences", "short")
    bad = [folder / f"JPEGImages/480p/{name}.png" for name in ("long/00001", "long/00004")]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])  # the header is whole
    told = run(folder, "--overwrite", status=2)
    assert "2 of 5 frames are cut short" in told  # the finished one is not looked at again
    assert f"{bad[0]}, {bad[1]}: mend them, or let --skip_bad carry" in told
    assert segmented == ["short"]
    assert (tmp_path / "out/scores.json").exists()
    run(folder, "--overwrite", "--skip_bad")
    assert segmented == ["short", "long"]

    start = folder / "JPEGImages/480p/long/00000.png"
    start.write_bytes(start.read_bytes()[:60])
    told = run(folder, "--overwrite", "--skip_bad", status=2)
    assert f"1 of 1 frames are cut short or cannot be read: {start}: mend them" in told


def test_a_bad_frame_stops_with_its_name_or_is_carried_over(run, folder, tmp_path):
    bad = folder / "JPEGImages/480p/short/00002.png"
    _damage(bad)
    told = run(folder, "--sequences", "short", status=2)
    assert "frame 2: image" in told
    assert str(bad) in told
    assert "--skip_bad" in told
    printed = run(folder, "--sequences", "short", "--skip_bad")
    assert "short: bad frames, which have the mask before: 00002.png" in printed
    made = tmp_path / "out/Annotations/short"
    assert (made / "00002.png").read_bytes() == (made / "00001.png").read_bytes()
    assert read(tmp_path / "out/scores.json")["carried"] == {"short": ["00002.png"]}
    told = run(folder, "--sequences", "short", status=2)
    assert "skipped bad frames (00002.png)" in told

    _damage(folder / "JPEGImages/480p/short/00000.png")
    told = run(folder, "--sequences", "short", "--skip_bad", "--overwrite", status=2)
    assert "frame 0" in told
    assert "cannot be skipped" in told


def _damage(path):
    """Between its header and its end, which are all that is looked at beforehand."""
    data = path.read_bytes()
    path.write_bytes(data[:41] + bytes(len(data) - 53) + data[-12:])


def test_a_frame_of_another_size_is_named(run, folder):
    (folder / "Annotations/480p/short/00002.png").unlink()  # which would tell before
    odd = folder / "JPEGImages/480p/short/00002.png"
    Image.new("RGB", (44, 32)).save(odd)
    told = run(folder, "--sequences", "short", status=2)
    assert f"{odd}: frame 2 is 44 wide and 32 high, the first one 40 and 32" in told
