"""Video builders make one record per video: frames unchanged, masks exact, bad videos reported."""

import os
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline.datasets import folders
from qmra_jax.errors import InputError
from qmra_jax.masks import PALETTE, VOID, decode_labels, read_labels, write_labels
from tests.support import datasets as trees
from tests.support.datasets import label_map
from tests.support.reading import builder_class, built, decoded, records, summary


@pytest.fixture
def builder(tmp_path):
    return lambda name, config=None: builder_class(name)(data_dir=tmp_path / "tfds", config=config)


def add_video(root, name, masks, frames=None, **options):
    trees.add_video(root, name, masks, frames=frames, suffix=".jpg", **options)


def by_name(folder, split="train"):
    """The records as anyone reads them who knows TFDS alone."""
    return {record["name"].decode(): record for record in decoded(folder, split)}


def made(builder, manual_dir: Path, split: str = "train"):
    """The records of a split by key, without writing anything."""
    items = builder.listings(manual_dir)[split].items
    return {item.key: item.make() for item in items}


def masks_of(record) -> list[np.ndarray]:
    return [decode_labels(data, "mask") for data in record.features["masks"]]


def one_video(root: Path, masks: list[np.ndarray], **options) -> Path:
    """A folder in the DAVIS layout that holds the video `cow`."""
    add_video(root, "cow", masks, **options)
    return root


@pytest.fixture
def davis(tmp_path) -> Path:
    """DAVIS 2017 with all its lists, test-dev among them."""
    root = tmp_path / "data" / "DAVIS"
    for name, ids in (("bear", [1]), ("bike", [1, 2]), ("cats", [1, 2, 3])):
        add_video(root, name, [label_map(ids)] * 3)
    add_video(root, "taxi", {"00000": label_map([1, 2])}, frames=trees.names(3))
    trees.add_list(root, "2016/train", ["bear"])
    trees.add_list(root, "2016/val", ["bike"])
    trees.add_list(root, "2017/train", ["bike", "bear"])
    trees.add_list(root, "2017/val", ["cats"])
    trees.add_list(root, "2017/test-dev", ["taxi"])
    return root


def test_youtube_vos_reads_back_with_the_frames_own_bytes_and_grey_masks(tmp_path):
    root = trees.youtube_vos(tmp_path / "YouTubeVOS")
    folder = built(builder_class("youtube_vos"), root, tmp_path / "tfds", config="2019")
    assert folder == tmp_path / "tfds/youtube_vos/2019/1.0.0"
    stored = {record["name"][0]: record for record in records(folder)}[b"0a1b"]
    files = sorted((root / "train/JPEGImages/0a1b").iterdir())
    assert stored["frames"] == [path.read_bytes() for path in files]
    grey = cv2.imdecode(np.frombuffer(stored["masks"][0], np.uint8), cv2.IMREAD_UNCHANGED)
    assert grey.ndim == 2

    video = by_name(folder)["0a1b"]
    expected = [label_map(ids) for ids in ([1], [1], [1, 2], [1, 2])]
    np.testing.assert_array_equal(video["masks"][..., 0], expected)
    np.testing.assert_array_equal(video["annotated"], [0, 1, 2, 3])
    assert video["frame_names"].tolist() == [b"00000", b"00005", b"00010", b"00015"]
    np.testing.assert_array_equal(video["objects"]["id"], [1, 2])
    assert video["objects"]["category"].tolist() == [b"penguin", b"person"]
    np.testing.assert_array_equal(video["objects"]["first_frame"], [0, 2])

    sparse = by_name(folder, "valid")["fe98"]
    np.testing.assert_array_equal(sparse["annotated"], [0, 2])
    full = by_name(folder, "valid_all_frames")["fe98"]
    assert len(full["frames"]) == 16
    np.testing.assert_array_equal(full["annotated"], [0, 10])
    np.testing.assert_array_equal(full["objects"]["first_frame"], [0, 10])
    np.testing.assert_array_equal(full["masks"], sparse["masks"])
    assert summary(folder, "valid")["counts"] == {
        "objects": 2,
        "objects that appear after the first frame": 1,
        "frames": 4,
        "masks": 2,
        "frames without a mask": 2,
        "videos no triplet can be drawn from": 1,
    }


def test_an_item_names_all_its_files_and_can_be_pickled(builder, tmp_path):
    root = trees.youtube_vos(tmp_path)
    item = builder("youtube_vos", "2018").listings(root)["valid"].items[0]
    assert set(item.sources) == {
        *(root / "valid").rglob("*.jpg"),
        *(root / "valid").rglob("*.png"),
        root / "valid/meta.json",
    }
    assert pickle.loads(pickle.dumps(item)).make() == item.make()


def test_editions_of_youtube_vos_are_not_confused(builder, tmp_path, monkeypatch):
    root = trees.youtube_vos(tmp_path / "2019")
    module = sys.modules[builder_class("youtube_vos").__module__]
    monkeypatch.setitem(module._VALID, "2019", 1)
    assert "valid" in builder("youtube_vos", "2019").listings(root)
    with pytest.raises(InputError, match=r"2019 and not 2018, .*--config=2019"):
        builder("youtube_vos", "2018").listings(root)
    assert set(made(builder("youtube_vos", "2019"), tmp_path)) == {"0a1b", "0c2d"}
    with pytest.raises(InputError, match=r"holds 2019 and not 2018"):
        builder("youtube_vos", "2018").listings(tmp_path)
    with pytest.raises(InputError, match=r"tfds: .*train, valid, valid_all_frames"):
        builder("youtube_vos", "2019").listings(tmp_path / "tfds")


def test_davis_2017_keeps_ids_and_has_test_dev_with_first_masks_alone(davis, tmp_path):
    folder = built(builder_class("davis2017"), davis.parent, tmp_path / "tfds")  # contains DAVIS
    assert set(by_name(folder)) == {"bear", "bike"}
    (cats,) = decoded(folder, "val")
    np.testing.assert_array_equal(cats["masks"][..., 0], [label_map([1, 2, 3])] * 3)
    np.testing.assert_array_equal(cats["objects"]["id"], [1, 2, 3])
    (taxi,) = decoded(folder, "test-dev")
    assert len(taxi["frames"]) == 3
    np.testing.assert_array_equal(taxi["annotated"], [0])


def test_davis_2016_merges_objects_and_reads_both_kinds_of_lists(builder, davis):
    listings = builder("davis2016").listings(davis)
    assert listings["val"].skipped == {"in no list train, val of ImageSets": 2}
    (bike,) = made(builder("davis2016"), davis, "val").values()
    np.testing.assert_array_equal(masks_of(bike), [label_map([1, 1])] * 3)
    assert [o["id"] for o in bike.features["objects"]] == [1]

    for path in (davis / "ImageSets/2016").iterdir():
        path.unlink()
    lines = [f"/JPEGImages/480p/bear/{s}.jpg /Annotations/480p/bear/{s}.png" for s in "012"]
    trees.add_list(davis, "480p/train", lines)
    assert {s: len(x.items) for s, x in builder("davis2016").listings(davis).items()} == {
        "train": 1
    }


def stray(ids):
    """A mask with one pixel of 1 too many."""
    labels = label_map(ids)
    labels[0, 0] = 1
    return labels


def raw(root, split=None):
    """The same video read without a build, with void as background."""
    (clip,) = folders.open_videos(root, "own", split).clips
    maps = [clip.labels(k) for k in range(clip.length)]
    return [np.where(labels == VOID, 0, labels) for labels in maps]


ZERO_255 = [label_map([]), label_map([255]), label_map([255])]


@pytest.mark.parametrize("label", [255, 1])
def test_masks_of_one_object_are_built_as_raw_files_are_read(builder, tmp_path, label):
    masks = [label_map([]), label_map([label]), label_map([label])]
    expected = [mask > 0 for mask in masks]
    root = one_video(tmp_path / "own", masks)
    for name, split in (("vos_folder", None), ("davis2016", "train")):
        if split:
            trees.add_list(root, "2016/train", ["cow"])
        (cow,) = made(builder(name), root).values()
        np.testing.assert_array_equal(masks_of(cow), expected)
        np.testing.assert_array_equal(raw(root, split), expected)
        assert cow.counts["masks relabelled to one object"] == (3 if label == 255 else 0)


def test_ids_of_davis_2017_are_never_0_and_255(builder, tmp_path):
    root = one_video(tmp_path, ZERO_255)
    trees.add_list(root, "2017/train", ["cow"])
    with pytest.raises(InputError, match=r"video cow: .*0 and 255"):
        made(builder("davis2017"), root)


def test_255_beside_ids_is_void_even_in_a_frame_of_void_alone(builder, tmp_path):
    masks = [label_map([1, 2, 255]), label_map([1, 2, 255]), label_map([255])]
    root = one_video(tmp_path / "own", masks)
    (cow,) = made(builder("vos_folder"), root).values()
    np.testing.assert_array_equal(masks_of(cow), masks)
    assert [o["id"] for o in cow.features["objects"]] == [1, 2]
    trees.add_list(root, "2016/train", ["cow"])  # where objects are merged
    (cow,) = made(builder("davis2016"), root).values()
    expected = [(mask > 0) & (mask < VOID) for mask in masks]
    np.testing.assert_array_equal([mask == 1 for mask in masks_of(cow)], expected)
    np.testing.assert_array_equal(raw(root, "train"), expected)


AMBIGUOUS = {
    "0/1 first, then 0/255": [label_map([1]), label_map([255]), label_map([255])],
    "0/255 last": [label_map([1]), label_map([1]), label_map([255])],
    "0/255 around ids": [label_map([255]), label_map([1, 2]), label_map([255])],
    "a pixel of 1": [label_map([255]), stray([255]), label_map([255])],
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_masks_in_which_255_may_be_the_object_or_void_are_refused(builder, tmp_path, kind):
    root = one_video(tmp_path / "own", AMBIGUOUS[kind])
    # In DAVIS 2017 the masks of "0/255 last" are ids, with less void than ids.
    lists = {"vos_folder": None, "davis2016": "480p/train", "davis2017": "2017/train"}
    for name in list(lists)[: 2 if kind == "0/255 last" else 3]:
        if lists[name]:
            trees.add_list(root, lists[name], ["cow"])
        with pytest.raises(InputError, match=r"^video cow: 255 may be.*$"):
            made(builder(name), root)


def test_a_video_beside_images_of_other_kinds_is_reported_and_left_out(builder, tmp_path):
    for name in ("ant", "bee", "cow"):
        add_video(tmp_path, name, [label_map([1])] * 3, frames=trees.names(5))
    Image.fromarray(label_map([1])).save(mask(tmp_path, 3).with_suffix(".JPG"))
    (tmp_path / "JPEGImages/480p/bee/00009.webp").write_bytes(b"")
    (tmp_path / "JPEGImages/480p/ant/notes.txt").write_text("no image")
    listing = builder("vos_folder").listings(tmp_path)["train"]
    assert [item.key for item in listing.items] == ["ant"]
    bee, cow = listing.faults
    assert "480p/bee: " in bee
    assert "1 (00009.webp)" in bee
    assert "Annotations/480p/cow: " in cow
    assert "1 (00003.JPG)" in cow


def test_frames_without_a_mask_and_videos_too_short_for_a_triplet_are_counted(builder, tmp_path):
    masks = [label_map([1, 2]), label_map([1]), label_map([1])]
    add_video(tmp_path, "cow", dict(zip("012", masks, strict=True)), frames=list("012345"))
    add_video(tmp_path, "dog", {"0": label_map([1]), "1": label_map([1])}, frames=list("01"))
    add_video(tmp_path, "eel", {k: label_map([int(k)]) for k in "1234"})
    videos = made(builder("vos_folder"), tmp_path)
    assert videos["cow"].counts["frames without a mask"] == 3
    short = [video.counts["videos no triplet can be drawn from"] for video in videos.values()]
    assert short == [0, 1, 1]  # eel's four objects show once each
    shown = [[o["frames"] for o in video.features["objects"]] for video in videos.values()]
    assert shown == [[3, 1], [2], [1, 1, 1, 1]]


def test_a_folder_without_lists_is_one_split_and_may_lack_masks_and_the_480p_level(tmp_path):
    frames = [f"frame_{k}" for k in range(12)]  # not padded: 10 comes after 9
    masks = {"frame_2": label_map([3]), "frame_10": label_map([3, 7])}
    add_video(tmp_path / "own", "cow", masks, frames=frames, level="")
    (cow,) = decoded(built(builder_class("vos_folder"), tmp_path / "own", tmp_path / "tfds"))
    assert cow["frame_names"].tolist() == [name.encode() for name in frames]
    np.testing.assert_array_equal(cow["annotated"], [2, 10])
    np.testing.assert_array_equal(cow["masks"][..., 0], list(masks.values()))
    np.testing.assert_array_equal(cow["objects"]["id"], [3, 7])
    np.testing.assert_array_equal(cow["objects"]["first_frame"], [2, 10])


def test_each_list_of_a_folder_is_a_split(builder, tmp_path):
    for name in ("cow", "dog", "eel"):
        add_video(tmp_path, name, {"0": label_map([1])})
    trees.add_list(tmp_path, "train", ["cow"])
    trees.add_list(tmp_path, "2030/held_out", ["dog"])
    listings = builder("vos_folder").listings(tmp_path)
    assert {split: [i.key for i in x.items] for split, x in listings.items()} == {
        "held_out": ["dog"],
        "train": ["cow"],
    }
    assert listings["train"].skipped == {"in no list held_out, train of ImageSets": 1}
    trees.add_list(tmp_path, "2031/train", ["dog"])
    with pytest.raises(InputError, match=r"lists train"):
        builder("vos_folder").listings(tmp_path)
    trees.add_list(tmp_path, "my split", ["dog"])
    with pytest.raises(InputError, match=r"list my split"):
        builder("vos_folder").listings(tmp_path)


def frame(root, k=1):
    return root / f"JPEGImages/480p/cow/{k:05d}.jpg"


def mask(root, k=1):
    return root / f"Annotations/480p/cow/{k:05d}.png"


def cut(path):
    path.write_bytes(path.read_bytes()[:-80])


def save(path, pixels, kind=None):
    Image.fromarray(pixels).save(path, kind)


def cut_png(frame, _):
    frame.unlink()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    save(frame.with_suffix(".png"), noise)
    cut(frame.with_suffix(".png"))


def all_empty(_, mask):
    for path in mask.parent.iterdir():
        write_labels(path, label_map([]))


SOFT = cv2.GaussianBlur(label_map([255]), (3, 3), 0)
COLOURS = PALETTE[label_map([1, 2])]
BAD = {  # change to a frame and its mask; error
    "frame's size": (lambda f, m: save(f, COLOURS[:20]), r"1\.jpg is 32x20 but .* is 32x24"),
    "mask's size": (lambda f, m: write_labels(m, label_map([1], (20, 30))), r"1\.png is 30x20 "),
    "frame cut short": (lambda f, m: cut(f), r"1\.jpg"),
    "cut header": (lambda f, m: f.write_bytes(f.read_bytes()[:30]), r"1\.jpg cannot be read"),
    "empty frame": (lambda f, m: f.write_bytes(b""), r"1\.jpg cannot be read"),
    "PNG cut short": (cut_png, r"1\.png"),
    "BMP": (lambda f, m: save(f, COLOURS, "BMP"), r"1\.jpg is a BMP file"),
    "mask cut short": (lambda f, m: cut(m), r"mask .*1\.png"),
    "coloured mask": (lambda f, m: save(m, COLOURS), r"1\.png.* RGB"),
    "blended mask": (lambda f, m: save(m, SOFT), r"1\.png holds \d+, "),
    "all masks empty": (all_empty, r"video cow: all 3 masks are empty"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named(builder, tmp_path, kind):
    root = one_video(tmp_path, [label_map([1])] * 3)
    assert set(made(builder("vos_folder"), root)) == {"cow"}
    spoil, message = BAD[kind]
    spoil(frame(root), mask(root))
    with pytest.raises(InputError, match=f"^.*{message}.*$"):
        made(builder("vos_folder"), root)


def test_a_jpeg_with_data_after_its_end_is_complete(builder, tmp_path):
    root = one_video(tmp_path, [label_map([1])] * 2)
    frame(root).write_bytes(frame(root).read_bytes() + b"a camera's own notes" * 10)
    assert set(made(builder("vos_folder"), root)) == {"cow"}


def test_objects_on_which_meta_json_and_masks_disagree_are_named(builder, tmp_path):
    root = trees.youtube_vos(tmp_path)
    meta = trees.read_meta(root / "train")
    extra = meta["0c2d"]["objects"] | {"4": {"category": "dog", "frames": ["00005"]}}
    trees.write_meta(root / "train", meta | {"0c2d": {"objects": extra}})
    with pytest.raises(InputError, match=r"video 0c2d: object 4 "):
        made(builder("youtube_vos", "2018"), root)
    del meta["0a1b"]["objects"]["2"]
    trees.write_meta(root / "train", meta)
    with pytest.raises(InputError, match=r"video 0a1b: .*object 2, .*meta\.json"):
        made(builder("youtube_vos", "2018"), root)


def test_every_incomplete_sequence_of_davis_is_listed(builder, davis):
    (davis / "Annotations/480p/bear/00001.png").unlink()
    (davis / "JPEGImages/480p/bike/00002.jpg").unlink()
    mask = davis / "Annotations/480p/taxi/00000.png"
    mask.rename(mask.with_name("00001.png"))
    found = builder("davis2017").listings(davis)
    faults = {split: [fault.split()[1] for fault in x.faults] for split, x in found.items()}
    assert faults == {"train": ["bike", "bear"], "val": [], "test-dev": ["taxi"]}


def test_the_real_davis_2016_has_no_faults_and_its_masks_are_exact(builder):
    root = Path(os.environ.get("QMRA_DATA", ""), "davis2016")
    if not root.is_dir() or "QMRA_DATA" not in os.environ:
        pytest.skip("QMRA_DATA names no folder with davis2016")
    listings = builder("davis2016").listings(root)
    assert all(listing.items and not listing.faults for listing in listings.values())
    record = listings["val"].items[0].make()
    name = record.features["name"]
    frames = sorted((root / "JPEGImages/480p" / name).iterdir())
    assert record.features["frames"] == [path.read_bytes() for path in frames]
    for path, mask in zip(
        sorted((root / "Annotations/480p" / name).iterdir()), masks_of(record), strict=True
    ):
        np.testing.assert_array_equal(mask, read_labels(path) > 0)
