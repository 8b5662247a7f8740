"""An entry of the config finds its dataset by the content of its folder."""

import pytest

from data_pipeline.datasets.built import RecordPairs, RecordVideos
from data_pipeline.datasets.folders import FolderPairs, FolderVideos
from data_pipeline.triplets.entries import Entry, open_clips, open_pairs, parse_entries
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, square
from tests.support.reading import build_as


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
    with pytest.raises(InputError, match=r"data\.static entry .*: expected FOLDER"):
        Entry.parse(text, "data.static")


@pytest.mark.parametrize("repeat", ["", "x", "0", "-1", "nan", "inf", "1001"])
def test_a_repeat_must_be_a_number_above_0(repeat):
    with pytest.raises(InputError, match=r"entry 'duts@.*': expected a number above 0"):
        Entry.parse(f"duts@{repeat}", "data.static")


def test_a_dataset_named_twice_and_a_text_in_place_of_a_tuple_are_refused():
    parse_entries(("davis:train", "davis:val", "davis:train:2017"), "data.videos")
    with pytest.raises(InputError, match="'duts@3': "):
        parse_entries(("duts", "ecssd", "duts@3"), "data.static")
    with pytest.raises(InputError, match=r"data\.static='duts': expected a tuple"):
        parse_entries("duts", "data.static")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Raw and built: the pairs of `raw_s` are in `duts/1.0.0`, the video of `raw_v` in `vos`."""
    root = tmp_path_factory.mktemp("data")
    for stem in "ab":
        add_pair(root / "raw_s", stem)
    add_video(root / "raw_v", "walk", [square()] * 3, "train")
    build_as(root / "duts/1.0.0", "image_masks", root / "raw_s")
    for config in ("2018", "2019"):
        build_as(root / f"vos/{config}/1.0.0", "vos_folder", root / "raw_v")
    build_as(root / "only/big/1.0.0", "vos_folder", root / "raw_v")
    (root / "empty").mkdir()
    return root


def pairs(text, root):
    return open_pairs(Entry.parse(text, "data.static"), str(root))


def clips(text, root):
    return open_clips(Entry.parse(text, "data.videos"), str(root))


def test_the_content_of_the_folder_decides_how_it_is_read(root):
    assert isinstance(pairs("raw_s", root), FolderPairs)
    assert isinstance(clips("raw_v:train", root), FolderVideos)
    for text in ("duts", "duts:train", "duts/1.0.0", str(root / "duts")):
        assert isinstance(pairs(text, root), RecordPairs)
    assert isinstance(clips("vos/2019", root), RecordVideos)
    assert len(clips("vos/2019/1.0.0:train", root)) == 1
    assert pairs("duts", root).pair(1)[0] == "duts/b.jpg"
    assert pairs("raw_s", root).pair(0)[0] == "raw_s/a.jpg"
    assert clips("vos/2019", root).clip(0).name == "vos/2019/walk"
    assert clips("raw_v:train", root).clip(0).name == "raw_v/walk"


def test_one_of_several_configs_must_be_named_but_not_a_single_one(root):
    with pytest.raises(InputError, match=r"'vos': .* 2018, 2019: .* vos/2018"):
        clips("vos", root)
    assert len(clips("only", root)) == 1


@pytest.mark.parametrize(
    ("opened", "entry", "message"),
    [
        (pairs, "raw_v", r"raw_v holds videos: .*data\.videos"),
        (clips, "raw_s", r"raw_s holds still images: name it in data\.static"),
        (pairs, "vos/2019", r"holds videos: name it in data\.videos"),
        (clips, "duts", r"holds images: name it in data\.static"),
        (pairs, "synthetic", r"synthetic are videos: name it in data\.videos"),
        (pairs, "raw_s:train", r"'raw_s:train': .* no splits"),
        (clips, "vos/2019:train:2019", r"'vos/2019:train:2019': .* no year"),
        (clips, "synthetic:train:2016", "synthetic:SPLIT"),
        (clips, "synthetic:test", "split 'test'"),
        (pairs, "duts:test", "found train"),
        (pairs, "empty", r"empty/images"),
        (clips, "empty", "empty .*Annotations"),
    ],
)
def test_an_entry_that_does_not_fit_its_folder_is_refused(root, opened, entry, message):
    with pytest.raises(InputError, match=message):
        opened(entry, root)


def test_folders_are_relative_to_root_or_qmra_data_or_home(root, monkeypatch):
    monkeypatch.delenv("QMRA_DATA", raising=False)
    with pytest.raises(InputError, match=r"'duts' .* data\.root is empty and QMRA_DATA"):
        pairs("duts", "")
    assert len(pairs(str(root / "duts"), "")) == 2
    monkeypatch.setenv("QMRA_DATA", str(root))
    assert len(pairs("duts", "")) == 2
    monkeypatch.setenv("HOME", str(root))
    assert len(pairs("~/duts", "/nowhere")) == 2
    assert len(pairs("duts", "~")) == 2
    with pytest.raises(InputError, match=r"source 'nowhere': "):
        pairs("nowhere", root)
