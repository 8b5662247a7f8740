"""Every published form of the DAVIS layout is read, and an incomplete one is refused."""

from pathlib import Path

import pytest

from data_pipeline.datasets.davis import available_splits, find_sequences, has_split, read_split
from qmra_jax.errors import InputError
from tests.support.video_trees import add_list, add_video, label_map
from tests.support.video_trees import names as stamps

FRAMES = 3
MASK = label_map([1], (4, 6))


def add_sequence(root, name, frames=FRAMES, **options):
    add_video(root, name, dict.fromkeys(stamps(frames), MASK), **options)


@pytest.fixture
def root(tmp_path) -> Path:
    """Three sequences, two of them in a split, as DAVIS 2017 is published."""
    root = tmp_path / "DAVIS"
    for name in ("bear", "camel", "swan"):
        add_sequence(root, name)
    add_list(root, "2017/val", ["swan", "bear", ""])
    return root


def names(sequences):
    return [sequence.name for sequence in sequences]


def test_a_split_gives_its_sequences_in_its_order_with_frames_and_masks_in_time_order(root):
    swan, bear = find_sequences(root, year="2017", split="val")
    assert (swan.name, bear.name) == ("swan", "bear")
    assert bear.frames == tuple(root / f"JPEGImages/480p/bear/0000{i}.jpg" for i in range(FRAMES))
    assert bear.annotations == tuple(
        root / f"Annotations/480p/bear/0000{i}.png" for i in range(FRAMES)
    )


def test_the_list_of_frames_that_davis_2016_was_published_with_is_read(root):
    lines = [
        f"/JPEGImages/480p/{name}/0000{i}.jpg /Annotations/480p/{name}/0000{i}.png "
        for name in ("swan", "camel")
        for i in range(FRAMES)
    ]
    add_list(root, "480p/train", lines)
    assert read_split(root, "2016", "train") == ["swan", "camel"]
    add_list(root, "2016/train", ["camel"])
    assert read_split(root, "2016", "train") == ["camel"]  # the list of names comes first
    assert available_splits(root) == ["2016/train", "2017/val", "480p/train"]


def test_without_a_split_every_sequence_is_taken_and_no_list_is_needed(root):
    assert names(find_sequences(root, split=None)) == ["bear", "camel", "swan"]


def test_the_level_of_the_resolution_may_be_missing(tmp_path):
    add_sequence(tmp_path, "zebra", level="")
    (sequence,) = find_sequences(tmp_path, split=None)
    assert sequence.annotations[0] == tmp_path / "Annotations/zebra/00000.png"


def test_names_choose_among_the_split_and_a_name_outside_it_is_refused(root):
    assert names(find_sequences(root, year="2017", split="val", names=["bear"])) == ["bear"]
    with pytest.raises(InputError, match=r"camel: not among those of 2017/val.*swan, bear"):
        find_sequences(root, year="2017", split="val", names=["camel", "bear"])


def test_masks_alone_are_found_without_any_frames(root):
    for image in (root / "JPEGImages").rglob("*.jpg"):
        image.unlink()
    (bear,) = find_sequences(root, split=None, names=["bear"], need_frames=False)
    assert bear.frames == ()
    assert len(bear.annotations) == FRAMES


def test_hidden_files_are_not_frames(root):
    (root / "Annotations/480p/bear/._00000.png").write_bytes(b"left by macOS")
    (root / "Annotations/480p/.thumbnails").mkdir()
    assert names(find_sequences(root, split=None)) == ["bear", "camel", "swan"]


def test_a_root_a_list_or_a_layout_that_is_not_there_is_told_with_what_was_found(root, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_sequences(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"2016/train.*expected .*2016/train\.txt; found 2017/val"):
        find_sequences(root)
    add_list(root, "2017/none", [""])
    with pytest.raises(InputError, match=r"none\.txt is empty"):
        find_sequences(root, year="2017", split="none")
    (tmp_path / "other" / "images").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no folder Annotations: found images, expected"):
        find_sequences(tmp_path / "other", split=None)
    (tmp_path / "empty" / "Annotations").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no sequences"):
        find_sequences(tmp_path / "empty", split=None, need_frames=False)


def move(path, name):
    path.rename(path.with_name(name))


INCOMPLETE = {  # what is done to the frames and masks of `bear`, each a folder; what is told
    "no folder": (lambda f, m: m.rename(m.with_name("fox")), "no folder .*; found camel"),
    "no masks": (lambda f, m: [move(p, f"{p.stem}.bmp") for p in m.iterdir()], r"found 00000\.bmp"),
    "mask gone": (lambda f, m: (m / "00001.png").unlink(), r"3 frames .* and 2 masks.*: 00001"),
    "frame gone": (lambda f, m: (f / "00001.jpg").unlink(), r"2 frames .* and 3 masks.*: 00001"),
    "renumbered": (lambda f, m: move(m / "00000.png", "00003.png"), "3 masks .*: 00000, 00003"),
    "twice": (lambda f, m: (f / "00001.png").touch(), r"4 frames .* and 3 masks.*twice"),
}


@pytest.mark.parametrize("kind", INCOMPLETE)
def test_an_incomplete_sequence_is_refused_in_one_line(root, kind):
    spoil, message = INCOMPLETE[kind]
    spoil(root / "JPEGImages/480p/bear", root / "Annotations/480p/bear")
    with pytest.raises(InputError, match=rf"^sequence bear.*{message}.*$"):
        find_sequences(root, year="2017", split="val", names=["bear"])


def test_frames_without_a_mask_are_taken_where_that_is_allowed(root):
    masks = root / "Annotations/480p/bear"
    (masks / "00001.png").unlink()
    for allowed in ("some", "first"):
        (bear,) = find_sequences(root, split=None, names=["bear"], masks=allowed)
        assert (len(bear.frames), bear.annotated) == (FRAMES, (0, 2))
    (masks / "00000.png").unlink()
    (bear,) = find_sequences(root, split=None, names=["bear"], masks="some")
    assert bear.annotated == (2,)
    with pytest.raises(InputError, match=r"expected a mask of the first frame.*partner: 00000"):
        find_sequences(root, split=None, masks="first")
    (root / "JPEGImages/480p/bear/00002.jpg").unlink()
    with pytest.raises(InputError, match=r"expected a frame for each mask.*partner: 00002"):
        find_sequences(root, split=None, masks="some")


def test_sequences_at_fault_can_be_told_of_and_left_out(root):
    for name in ("bear", "swan"):
        (root / f"Annotations/480p/{name}/00001.png").unlink()
    faults = []
    assert names(find_sequences(root, split=None, faults=faults)) == ["camel"]
    assert [fault.split()[1] for fault in faults] == ["bear", "swan"]
    with pytest.raises(InputError, match=r"sequence bear .*\(and 1 more"):
        find_sequences(root, split=None)


def test_frames_come_by_number_even_where_it_is_not_padded(tmp_path):
    add_sequence(tmp_path, "zebra", frames=11)
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.png")]:
        path.rename(path.with_stem(f"shot{int(path.stem)}"))
    (zebra,) = find_sequences(tmp_path, split=None)
    assert [path.stem for path in zebra.frames] == [f"shot{k}" for k in range(11)]
    assert [path.stem for path in zebra.annotations] == [path.stem for path in zebra.frames]


def test_a_list_may_lie_in_no_years_folder(root):
    add_list(root, "mine", ["camel"])
    assert available_splits(root) == ["2017/val", "mine"]
    assert read_split(root, "", "mine") == ["camel"]
    assert has_split(root, "", "mine")
    assert not has_split(root, "2017", "mine")
