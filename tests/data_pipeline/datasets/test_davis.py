"""Every published form of the DAVIS layout is read; incomplete sequences are refused."""

from pathlib import Path

import pytest

from data_pipeline.datasets.davis import available_splits, find_sequences, has_split, read_split
from qmra_jax.errors import InputError
from tests.support.datasets import add_list, add_video, label_map

FRAMES = 3
MASKS = [label_map([1], (4, 6))] * FRAMES


@pytest.fixture
def root(tmp_path) -> Path:
    """Three sequences, two of them in a split, as DAVIS 2017 is published."""
    root = tmp_path / "DAVIS"
    for name in ("bear", "camel", "swan"):
        add_video(root, name, MASKS, suffix=".jpg")
    add_list(root, "2017/val", ["swan", "bear", ""])
    return root


def names(sequences):
    return [sequence.name for sequence in sequences]


def test_a_split_has_its_sequences_in_its_order_with_frames_and_masks_in_time_order(root):
    swan, bear = find_sequences(root, year="2017", split="val")
    assert (swan.name, bear.name) == ("swan", "bear")
    assert bear.frames == tuple(root / f"JPEGImages/480p/bear/0000{i}.jpg" for i in range(FRAMES))
    assert bear.annotations == tuple(
        root / f"Annotations/480p/bear/0000{i}.png" for i in range(FRAMES)
    )


def test_lists_are_read_in_every_form(root):
    lines = [
        f"/JPEGImages/480p/{name}/0000{i}.jpg /Annotations/480p/{name}/0000{i}.png "
        for name in ("swan", "camel")
        for i in range(FRAMES)
    ]
    add_list(root, "480p/train", lines)
    assert read_split(root, "2016", "train") == ["swan", "camel"]
    add_list(root, "2016/train", ["camel"])
    assert read_split(root, "2016", "train") == ["camel"]  # takes precedence over 480p
    add_list(root, "mine", ["camel"])
    assert read_split(root, "", "mine") == ["camel"]
    assert available_splits(root) == ["2016/train", "2017/val", "480p/train", "mine"]
    assert has_split(root, "", "mine")
    assert not has_split(root, "2017", "mine")


def test_without_a_split_all_sequences_are_found_but_hidden_files_are_not(root):
    (root / "Annotations/480p/bear/._00000.png").write_bytes(b"macOS")
    (root / "Annotations/480p/.thumbnails").mkdir()
    assert names(find_sequences(root, split=None)) == ["bear", "camel", "swan"]


def test_frames_need_no_480p_level_and_are_sorted_by_number(tmp_path):
    shots = [f"shot{k}" for k in range(11)]  # not padded: 10 comes after 9
    add_video(tmp_path, "zebra", dict.fromkeys(shots, MASKS[0]), level="")
    (zebra,) = find_sequences(tmp_path, split=None)
    assert zebra.annotations == tuple(tmp_path / f"Annotations/zebra/{s}.png" for s in shots)
    assert [path.stem for path in zebra.frames] == shots


def test_names_select_from_the_split(root):
    assert names(find_sequences(root, year="2017", split="val", names=["bear"])) == ["bear"]
    with pytest.raises(InputError, match=r"camel: .*2017/val.*swan, bear"):
        find_sequences(root, year="2017", split="val", names=["camel", "bear"])


def test_masks_alone_need_no_frames(root):
    for image in (root / "JPEGImages").rglob("*.jpg"):
        image.unlink()
    (bear,) = find_sequences(root, split=None, names=["bear"], need_frames=False)
    assert bear.frames == ()
    assert len(bear.annotations) == FRAMES


def test_a_missing_root_list_or_folder_is_named(root, tmp_path):
    add_list(root, "2017/none", [""])
    (tmp_path / "other" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "Annotations").mkdir(parents=True)
    for folder, options, message in (
        (tmp_path / "nowhere", {}, "nowhere"),
        (root, {}, r"2016/train\.txt; found 2017/"),
        (root, {"year": "2017", "split": "none"}, r"none\.txt is empty"),
        (tmp_path / "other", {"split": None}, "no folder Annotations: found images"),
        (tmp_path / "empty", {"split": None, "need_frames": False}, "empty/Annotations"),
    ):
        with pytest.raises(InputError, match=message):
            find_sequences(folder, **options)


def move(path, name):
    path.rename(path.with_name(name))


INCOMPLETE = {  # changes to the frames and masks of `bear`; error
    "no folder": (lambda f, m: m.rename(m.with_name("fox")), "Annotations/480p/bear; found camel"),
    "no masks": (lambda f, m: [move(p, f"{p.stem}.bmp") for p in m.iterdir()], r"found 00000\.bmp"),
    "mask gone": (lambda f, m: (m / "00001.png").unlink(), r"3 frames .* and 2 masks.*: 00001"),
    "frame gone": (lambda f, m: (f / "00001.jpg").unlink(), r"2 frames .* and 3 masks.*: 00001"),
    "renumbered": (lambda f, m: move(m / "00000.png", "00003.png"), "3 masks .*: 00000, 00003"),
    "twice": (lambda f, m: (f / "00001.png").touch(), r"4 frames .* and 3 masks.*none"),
}


@pytest.mark.parametrize("kind", INCOMPLETE)
def test_an_incomplete_sequence_is_refused_in_one_line(root, kind):
    spoil, message = INCOMPLETE[kind]
    spoil(root / "JPEGImages/480p/bear", root / "Annotations/480p/bear")
    with pytest.raises(InputError, match=rf"^sequence bear.*{message}.*$"):
        find_sequences(root, year="2017", split="val", names=["bear"])


def test_frames_may_lack_masks_where_that_is_allowed(root):
    masks = root / "Annotations/480p/bear"
    (masks / "00001.png").unlink()
    for allowed in ("some", "first"):
        (bear,) = find_sequences(root, split=None, names=["bear"], masks=allowed)
        assert (len(bear.frames), bear.annotated) == (FRAMES, (0, 2))
    (masks / "00000.png").unlink()
    (bear,) = find_sequences(root, split=None, names=["bear"], masks="some")
    assert bear.annotated == (2,)
    with pytest.raises(InputError, match=r"sequence bear.*: 00000"):
        find_sequences(root, split=None, masks="first")
    (root / "JPEGImages/480p/bear/00002.jpg").unlink()
    with pytest.raises(InputError, match=r"sequence bear.*: 00002"):
        find_sequences(root, split=None, masks="some")


def test_incomplete_sequences_can_be_reported_and_left_out(root):
    for name in ("bear", "swan"):
        (root / f"Annotations/480p/{name}/00001.png").unlink()
    faults = []
    assert names(find_sequences(root, split=None, faults=faults)) == ["camel"]
    assert [fault.split()[1] for fault in faults] == ["bear", "swan"]
    with pytest.raises(InputError, match=r"sequence bear .*1 more"):
        find_sequences(root, split=None)
