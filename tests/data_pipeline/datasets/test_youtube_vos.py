"""The official YouTube-VOS layout is read completely; inconsistent videos are reported."""

import re

import pytest

from data_pipeline.datasets import youtube_vos
from data_pipeline.datasets.youtube_vos import find_split, find_videos, has_layout, splits_in
from qmra_jax.errors import InputError
from tests.support import datasets as trees


@pytest.fixture
def root(tmp_path):
    return trees.youtube_vos(tmp_path / "YouTubeVOS")


def stems(paths):
    return [path.stem for path in paths]


def test_train_videos_have_a_mask_per_frame_and_the_objects_of_meta_json(root):
    later, leaves = find_split(root, "train").complete()
    assert (later.name, leaves.name) == ("0a1b", "0c2d")
    assert later.frames[1] == root / "train/JPEGImages/0a1b/00005.jpg"
    assert later.masks[1] == root / "train/Annotations/0a1b/00005.png"
    assert later.annotated == (0, 1, 2, 3)
    assert later.objects == (
        youtube_vos.Object(1, "penguin", 0, ("00000", "00005", "00010", "00015")),
        youtube_vos.Object(2, "person", 2, ("00010", "00015")),
    )
    assert find_videos(root / "train").videos == (later, leaves)


def test_valid_has_masks_only_where_objects_appear(root):
    (video,) = find_split(root, "valid").complete()
    assert stems(video.masks) == ["00000", "00010"]
    assert video.annotated == (0, 2)
    assert [(o.category, o.first_frame) for o in video.objects] == [("lizard", 0), ("hand", 2)]


@pytest.mark.parametrize("inside", ["", "valid", "valid_all_frames"])
def test_valid_all_frames_uses_the_masks_and_meta_json_of_valid(tmp_path, inside):
    root = trees.youtube_vos(tmp_path, inside)
    (video,) = find_split(root, "valid_all_frames").complete()
    assert stems(video.frames) == trees.names(16)
    assert video.masks == find_split(root, "valid").videos[0].masks
    assert video.annotated == (0, 10)
    assert video.objects[1].first_frame == 10
    assert video.objects[1].listed == ("00010", "00015")


def test_existing_splits_are_found_and_distinguished_from_the_davis_layout(root):
    assert splits_in(root) == ("train", "valid", "valid_all_frames")
    (root / "valid").rename(root / "put_away")
    assert splits_in(root) == ("train", "valid_all_frames")
    assert has_layout(root / "train")
    (root / "train/meta.json").unlink()
    assert not has_layout(root / "train")


def lists(objects):
    """Adds objects, id -> frames, to the first video of meta.json; or removes all if none."""

    def change(train):
        meta = trees.read_meta(train)
        old = meta["0a1b"]["objects"] if objects else {}
        new = trees.meta_entry(objects, {})["objects"]
        trees.write_meta(train, meta | {"0a1b": {"objects": old | new}})

    return change


def without_video(train):
    meta = trees.read_meta(train)
    del meta["0a1b"]
    trees.write_meta(train, meta)


def without_frames(train):
    for path in (train / "JPEGImages/0a1b").iterdir():
        path.unlink()


FAULTS = {
    "absent frame listed": (lists({"1": ["00000", "00007"]}), r"frames of object 1: 00007"),
    "object without frames": (lists({"3": []}), r"no frames of object 3"),
    "object 0": (lists({"0": ["00000"]}), r"object id 0 "),
    "no objects": (lists({}), r"meta\.json names no objects"),
    "absent from meta.json": (without_video, r"not in .*meta\.json$"),
    "absent frames": (lambda t: (t / "JPEGImages/0a1b").rename(t / "away"), r"JPEGImages$"),
    "absent masks": (lambda t: (t / "Annotations/0a1b").rename(t / "away"), r"Annotations$"),
    "empty folder": (without_frames, r"holds no frames$"),
    "missing mask": (lambda t: (t / "Annotations/0a1b/00005.png").unlink(), r"a mask: 00005$"),
    "missing frame": (
        lambda t: (t / "JPEGImages/0a1b/00005.jpg").unlink(),
        r"absent frames of object 1: 00005; masks without a frame: 00005$",
    ),
    "frame twice": (lambda t: (t / "JPEGImages/0a1b/00005.png").touch(), r"share a name$"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_video_is_reported_and_left_out(root, kind):
    break_it, message = FAULTS[kind]
    break_it(root / "train")
    found = find_split(root, "train")
    assert [video.name for video in found.videos] == ["0c2d"]
    (fault,) = found.faults
    assert fault.startswith("video 0a1b: ")
    assert re.search(message, fault)
    with pytest.raises(InputError, match=r" 1 .*: video 0a1b"):
        found.complete()


def test_valid_needs_masks_of_first_frames_only(root):
    (root / "valid/Annotations/fe98/00010.png").unlink()
    for split in ("valid", "valid_all_frames"):
        (fault,) = find_split(root, split).faults
        assert fault.endswith("first appear, without a mask: 00010")


def test_the_first_faults_and_their_number_are_reported_in_one_line(root):
    trees.write_meta(root / "train", {f"{k:04d}": trees.meta_entry({}, {}) for k in range(8)})
    with pytest.raises(InputError, match=r"^.* 10 .*video 0004: .*; and 5 more:.*$"):
        find_split(root, "train").complete()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"videos": {', "JSON"),
        ("[]", "TypeError"),
        ('{"videos": {"0a1b": {}}}', "KeyError: 'objects'"),
        ('{"videos": {"0a1b": {"objects": {"one": {"frames": []}}}}}', "ValueError.*'one'"),
        ('{"videos": {"0a1b": {"objects": {"1": {"frames": "00000"}}}}}', "frames of object 1"),
    ],
)
def test_an_unreadable_meta_json_is_refused(root, text, message):
    (root / "train/meta.json").write_text(text)
    with pytest.raises(InputError, match=rf"^.*train/meta\.json .*{message}.*$"):
        find_split(root, "train")


def test_missing_folders_are_named(root, tmp_path):
    def refused(message, split="train", folder=root):
        with pytest.raises(InputError, match=message):
            find_split(folder, split)

    refused(r"split test .*test/JPEGImages; found train, valid,", "test")
    refused(r"found none of train", folder=tmp_path / "nowhere")
    (root / "train/meta.json").unlink()
    refused(r"train/meta\.json")
    (root / "train/Annotations").rename(tmp_path / "away")
    refused(r"train/Annotations")
    (root / "valid").rename(tmp_path / "put_away")
    refused(r"expected .*valid as well.*valid\.zip", "valid_all_frames")
