"""An entry of the config finds its dataset by what lies in the folder, or says what is amiss."""

import pytest

from data_pipeline.datasets.built import RecordPairs, RecordVideos
from data_pipeline.datasets.folders import FolderPairs, FolderVideos
from data_pipeline.triplets.entries import Entry, open_clips, open_pairs, parse_entries
from qmra_jax.errors import InputError
from tests.support import datasets
from tests.support.datasets import (
    add_pair,
    add_video,
    pair_record,
    square,
    video_record,
    write_records,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("davis2016:train", ("davis2016", "train", None, 1)),
        ("davis2017:train:2017", ("davis2017", "train", "2017", 1)),
        ("youtube_vos/2019:train@5", ("youtube_vos/2019", "train", None, 5)),
        ("static/ecssd@2", ("static/ecssd", None, None, 2)),
        ("duts@0.25", ("duts", None, None, 0.25)),
        ("/data/me@home/duts", ("/data/me@home/duts", None, None, 1)),
        ("/data/me@home/duts@3", ("/data/me@home/duts", None, None, 3)),
        ("~/davis:val:2017@1e-2", ("~/davis", "val", "2017", 0.01)),
        ("gs://bucket/tfds/duts:train@2", ("gs://bucket/tfds/duts", "train", None, 2)),
        ("gs://bucket/tfds/duts", ("gs://bucket/tfds/duts", None, None, 1)),
        ("synthetic", ("synthetic", None, None, 1)),
        ("synthetic:val", ("synthetic", "val", None, 1)),
        (".:train", (".", "train", None, 1)),
    ],
)
def test_an_entry_is_folder_split_year_and_repeat(text, parts):
    entry = Entry.parse(text, "data.videos")
    assert (entry.folder, entry.split, entry.year, entry.repeat) == parts


@pytest.mark.parametrize("text", ["", ":train", "davis:", "davis:train:2017:x", "a:b::", 5])
def test_another_form_is_refused(text):
    with pytest.raises(InputError, match=r"data\.static entry .*: expected FOLDER, FOLDER:SPLIT"):
        Entry.parse(text, "data.static")


@pytest.mark.parametrize("repeat", ["", "x", "0", "-1", "nan", "inf", "1001"])
def test_a_repeat_that_is_no_number_above_0_is_refused(repeat):
    with pytest.raises(InputError, match=r"entry 'duts@.*': expected a number above 0 after @"):
        Entry.parse(f"duts@{repeat}", "data.static")


def test_one_dataset_twice_and_a_lone_text_are_refused():
    parse_entries(("davis:train", "davis:val", "davis:train:2017"), "data.videos")
    with pytest.raises(InputError, match="'duts@3': it is there twice"):
        parse_entries(("duts", "ecssd", "duts@3"), "data.static")
    with pytest.raises(InputError, match=r"data\.static='duts': expected a tuple"):
        parse_entries("duts", "data.static")


@pytest.fixture
def root(tmp_path):
    """Raw and built: a pair of `raw_s` is in `duts/1.0.0`, a video of `raw_v` in `vos/2019`."""
    add_pair(tmp_path / "raw_s", "a")
    add_video(tmp_path / "raw_v", "walk", [square()] * 3)
    still = pair_record(tmp_path / "raw_s/images/a.jpg", tmp_path / "raw_s/masks/a.png")
    write_records(tmp_path / "duts/1.0.0", datasets.PAIR, [still] * 2)
    video = video_record(tmp_path / "raw_v", "walk")
    write_records(tmp_path / "vos/2018/1.0.0", datasets.VIDEO, [video])
    write_records(tmp_path / "vos/2019/1.0.0", datasets.VIDEO, [video] * 2)
    return tmp_path


def pairs(text, root):
    return open_pairs(Entry.parse(text, "data.static"), str(root))


def clips(text, root):
    return open_clips(Entry.parse(text, "data.videos"), str(root))


def test_what_lies_in_the_folder_says_how_it_is_read(root):
    assert isinstance(pairs("raw_s", root), FolderPairs)
    assert isinstance(clips("raw_v:train", root), FolderVideos)
    for text in ("duts", "duts:train", "duts/1.0.0", str(root / "duts")):
        assert isinstance(pairs(text, root), RecordPairs)
    assert isinstance(clips("vos/2019", root), RecordVideos)
    assert len(clips("vos/2019/1.0.0:train", root)) == 2
    assert pairs("duts", root).pair(1)[0] == "duts/a.jpg"
    assert pairs("raw_s", root).pair(0)[0] == "raw_s/a.jpg"
    assert clips("vos/2019", root).clip(0).name == "vos/2019/walk"
    assert clips("raw_v:train", root).clip(0).name == "raw_v/walk"


def test_an_only_config_need_not_be_named_one_of_several_must(root):
    with pytest.raises(InputError, match=r"holds the datasets 2018, 2019: .*such as vos/2018"):
        clips("vos", root)
    (root / "vos/2019/1.0.0/dataset_info.json").unlink()
    assert len(clips("vos", root)) == 1


@pytest.mark.parametrize(
    ("opened", "entry", "message"),
    [
        (pairs, "raw_v", r"raw_v holds videos: name it in data\.videos"),
        (clips, "raw_s", r"raw_s holds still images: name it in data\.static"),
        (pairs, "vos/2019", r"holds videos: name it in data\.videos"),
        (clips, "duts", r"holds images: name it in data\.static"),
        (pairs, "synthetic", r"synthetic are videos: name it in data\.videos"),
        (pairs, "raw_s:train", r"'raw_s:train': .* no splits"),
        (clips, "vos/2019:train:2019", r"'vos/2019:train:2019': .* no year"),
        (clips, "synthetic:train:2016", "synthetic:SPLIT"),
        (clips, "synthetic:test", "split 'test'"),
        (pairs, "duts:test", "found train"),
        (pairs, "empty", r"empty: expected a folder .*empty/images"),
        (clips, "empty", "empty has no folder Annotations"),
    ],
)
def test_an_entry_that_does_not_fit_what_lies_there_is_refused(root, opened, entry, message):
    (root / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        opened(entry, root)


def test_folders_are_found_below_root_or_qmra_data_or_home(root, monkeypatch):
    monkeypatch.delenv("QMRA_DATA", raising=False)
    with pytest.raises(InputError, match=r"'duts' is relative, but data\.root is empty and QMRA"):
        pairs("duts", "")
    assert len(pairs(str(root / "duts"), "")) == 2
    monkeypatch.setenv("QMRA_DATA", str(root))
    assert len(pairs("duts", "")) == 2
    monkeypatch.setenv("HOME", str(root))
    assert len(pairs("~/duts", "/nowhere")) == 2
    assert len(pairs("duts", "~")) == 2
    with pytest.raises(InputError, match=r"source 'nowhere': no folder .*nowhere"):
        pairs("nowhere", root)


def test_synthetic_videos_need_nothing_on_disk(monkeypatch):
    monkeypatch.delenv("QMRA_DATA", raising=False)
    train, val = clips("synthetic", ""), clips("synthetic:val", "")
    assert len(train) > len(val) > 0
    assert train.clip(3).name == "synthetic/train/00003"
