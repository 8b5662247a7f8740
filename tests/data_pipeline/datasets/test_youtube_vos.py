"""The official YouTube-VOS layout is read whole, and whatever does not fit together is told."""

import re

import pytest

from data_pipeline.datasets import youtube_vos
from data_pipeline.datasets.youtube_vos import find_split, find_videos, has_layout, splits_in
from qmra_jax.errors import InputError
from tests.support import video_trees as trees


@pytest.fixture
def root(tmp_path):
    return trees.youtube_vos(tmp_path / "YouTubeVOS")


def stems(paths):
    return [path.stem for path in paths]


def test_train_gives_each_video_with_a_mask_a_frame_and_the_objects_of_meta_json(root):
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
def test_valid_at_the_full_frame_rate_takes_the_masks_and_meta_json_of_valid(tmp_path, inside):
    root = trees.youtube_vos(tmp_path, inside)
    (video,) = find_split(root, "valid_all_frames").complete()
    assert stems(video.frames) == trees.names(16)
    assert video.masks == find_split(root, "valid").videos[0].masks
    assert video.annotated == (0, 10)
    assert video.objects[1].first_frame == 10
    assert video.objects[1].listed == ("00010", "00015")


def test_the_splits_that_are_there_are_found_and_told_from_the_davis_layout(root):
    assert splits_in(root) == ("train", "valid", "valid_all_frames")
    (root / "valid").rename(root / "put_away")
    assert splits_in(root) == ("train", "valid_all_frames")
    assert has_layout(root / "train")
    (root / "train/meta.json").unlink()
    assert not has_layout(root / "train")


def test_hidden_files_and_folders_are_not_data(root):
    (root / "train/JPEGImages/0a1b/._00000.jpg").write_bytes(b"left by macOS")
    (root / "train/Annotations/.thumbnails").mkdir()
    assert len(find_split(root, "train").complete()) == 2


def lists(objects):
    """Changes meta.json: the first video has these objects, id -> frames, beside or none."""

    def change(train):
        meta = trees.read_meta(train)
        old = meta["0a1b"]["objects"] if objects else {}
        new = {key: {"category": "ape", "frames": frames} for key, frames in objects.items()}
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
    "frame twice": (lambda t: (t / "JPEGImages/0a1b/00005.png").touch(), r"there twice$"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_told_with_its_video_which_is_left_out(root, kind):
    break_it, message = FAULTS[kind]
    break_it(root / "train")
    found = find_split(root, "train")
    assert [video.name for video in found.videos] == ["0c2d"]
    (fault,) = found.faults
    assert fault.startswith("video 0a1b: ")
    assert re.search(message, fault)
    with pytest.raises(InputError, match=r"1 at fault: video 0a1b"):
        found.complete()


def test_in_valid_only_the_masks_of_first_frames_are_needed(root):
    (root / "valid/Annotations/fe98/00010.png").unlink()
    for split in ("valid", "valid_all_frames"):
        (fault,) = find_split(root, split).faults
        assert fault.endswith("frames in which objects first appear, without a mask: 00010")


def test_the_first_faults_and_their_number_are_told_in_one_line(root):
    trees.write_meta(root / "train", {f"{k:04d}": trees.entry({}) for k in range(8)})
    with pytest.raises(InputError, match=r"^.*10 at fault: .*video 0004: .*; and 5 more:.*$"):
        find_split(root, "train").complete()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"videos": {', "cannot be read as JSON"),
        ("[]", "is not YouTube-VOS's"),
        ('{"videos": {"0a1b": {}}}', "KeyError: 'objects'"),
        ('{"videos": {"0a1b": {"objects": {"one": {"frames": []}}}}}', "ValueError.*'one'"),
        ('{"videos": {"0a1b": {"objects": {"1": {"frames": "00000"}}}}}', "frames of object 1"),
    ],
)
def test_an_unreadable_meta_json_is_refused(root, text, message):
    (root / "train/meta.json").write_text(text)
    with pytest.raises(InputError, match=rf"^.*train/meta\.json .*{message}.*$"):
        find_split(root, "train")


def test_folders_that_are_not_there_are_told_with_what_was_expected(root, tmp_path):
    with pytest.raises(InputError, match=r"split test .*test/JPEGImages; found train, valid,"):
        find_split(root, "test")
    with pytest.raises(InputError, match=r"found none of train"):
        find_split(tmp_path / "nowhere", "train")
    (root / "train/meta.json").unlink()
    with pytest.raises(InputError, match=r"no file .*train/meta\.json"):
        find_split(root, "train")
    (root / "train/Annotations").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"no folder .*train/Annotations"):
        find_split(root, "train")
    (root / "valid").rename(tmp_path / "put_away")
    with pytest.raises(InputError, match=r"expected .*valid as well.*unpack valid\.zip"):
        find_split(root, "valid_all_frames")
