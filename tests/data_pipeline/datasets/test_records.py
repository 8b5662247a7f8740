"""Any record of a built dataset is read by its number; incomplete files are refused."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from data_pipeline.builders.base import Builder
from data_pipeline.builders.items import Item, Listing, Record
from data_pipeline.datasets.built import RecordPairs, RecordVideos
from data_pipeline.datasets.records import STATIC, VIDEO, find_version, open_records
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, names, save, square
from tests.support.reading import build_as, built

NAMES = [f"{i}.png" for i in range(7)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Seven images of noise and different sizes as records in `one` shard and in `three`."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for k, name in enumerate(NAMES):
        add_pair(root / "raw", f"{k}", square(2 + k), suffix=".png")
        save(root / "raw/images" / name, rng.integers(0, 256, (32, 40, 3), np.uint8))
    for folder, shards in (("one", 1), ("three", 3)):
        build_as(root / folder, "image_masks", root / "raw", num_shards=shards)
    return root


@pytest.fixture
def one(made, tmp_path):
    """A copy of the dataset of one shard."""
    return shutil.copytree(made / "one", tmp_path / "one")


def shard_of(folder):
    (path,) = folder.glob("*.tfrecord-00000-of-00001")
    return path


def listed(records):
    return [records[i]["name"][0].decode() for i in range(len(records))]


@pytest.mark.parametrize("folder", ["one", "three"])
def test_records_are_numbered_over_all_shards(folder, made):
    records = open_records(made / folder, "train", STATIC)
    assert listed(records) == NAMES
    assert records[5]["image"][0] == (made / "raw/images/5.png").read_bytes()
    for beyond in (-1, 7):
        with pytest.raises(IndexError):
            records[beyond]


def test_a_record_is_read_without_the_others(one):
    shard = shard_of(one)
    start = np.load(f"{shard}.offsets.npy")[4, 0] - 12
    shard.write_bytes(bytes(start) + shard.read_bytes()[start:])  # nothing before record 4
    assert open_records(one, "train", STATIC)[4]["name"] == [b"4.png"]


def test_a_bucket_is_read_like_a_disk(made, tmp_path, monkeypatch):
    def redirected(function):
        return lambda path, *args: function(str(path).replace("gs://", f"{tmp_path}/"), *args)

    for name in ("GFile", "exists", "isdir", "listdir", "stat"):
        monkeypatch.setattr(tf.io.gfile, name, redirected(getattr(tf.io.gfile, name)))
    shutil.copytree(made / "three", tmp_path / "bucket/duts/1.0.0")
    found = find_version("gs://bucket/duts")
    assert str(found) == "gs://bucket/duts/1.0.0"
    assert listed(open_records(found, "train", STATIC)) == NAMES


def test_a_shard_that_does_not_match_its_offsets_is_refused(one):
    shard = shard_of(one)
    path, data = f"{shard}.offsets.npy", shard.read_bytes()
    spans = np.load(path)

    def refused(message):
        with pytest.raises(InputError, match=message):
            open_records(one, "train", STATIC)[2]

    shard.write_bytes(data[:-1])
    refused(rf"{shard.name}: expected 7 records in {len(data) - 1} bytes.*{len(data)}")
    shard.write_bytes(data)
    np.save(path, spans[:-1])
    refused(r"expected 7 records .*offsets\.npy lists 6")
    np.save(path, spans.astype(np.float32))
    refused(r"offsets\.npy: expected int64 \[records, 2\]")
    np.save(path, spans + [[3, 0]] * (np.arange(7) % 6 > 0)[:, None])
    refused(rf"{shard.name}: expected a record of {spans[2, 1]} bytes at byte {spans[2, 0] + 3}")
    shard.with_name(f"{shard.name}.offsets.npy").unlink()
    refused(rf"{shard.name}: .*offsets\.npy does not exist")


def test_a_file_that_changes_or_disappears_while_in_use_is_named(one):
    shard, records = shard_of(one), open_records(one, "train", STATIC)
    data = bytearray(shard.read_bytes())
    start, length = records.shards[0].spans[3].tolist()
    data[start : start + length] = b"\xff" * length

    def refused(message):
        with pytest.raises(InputError, match=f"{shard.name}{message}"):
            records[3]

    shard.write_bytes(data)
    refused(f": the record at byte {start} is damaged")
    shard.write_bytes(data[:100])
    refused(f": expected a record of {length} bytes")
    shard.unlink()
    refused(" cannot be read")
    with pytest.raises(InputError, match=rf"{shard.name}: .*does not exist"):
        open_records(one, "train", STATIC)


def test_a_missing_split_and_a_damaged_description_are_named(one):
    with pytest.raises(InputError, match=r"split val of .*; found train"):
        open_records(one, "val", STATIC)
    (one / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=f"dataset {one} cannot be read"):
        open_records(one, "train", STATIC)


class Numbers(Builder):
    """Neither images nor videos."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = LICENSE = MANUAL_DOWNLOAD_INSTRUCTIONS = ""
    RECORDS, READS_FILES, FEATURES = "numbers", False, {"x": np.int64}

    def listings(self, manual_dir):
        return {"train": Listing((Item("1", lambda: Record({"x": 1}, {})),))}


def test_images_and_videos_are_distinguished_by_their_features(made, tmp_path):
    add_video(tmp_path / "raw", "walk", [square(1)] * 3)
    videos = build_as(tmp_path / "videos", "vos_folder", tmp_path / "raw")
    for folder, needed, message in (
        (made / "one", VIDEO, r"holds images: .*data\.static"),
        (videos, STATIC, r"holds videos: .*data\.videos"),
        (built(Numbers, None, tmp_path), VIDEO, "features x: expected annotated, frames, masks"),
    ):
        with pytest.raises(InputError, match=message):
            open_records(folder, "train", needed)


def test_the_newest_complete_version_is_used(made, tmp_path):
    for version in ("1.9.0", "1.10.0"):
        shutil.copytree(made / "one", tmp_path / "duts" / version)
    for unfinished in ("2.0.0", "incomplete.ABC_3.0.0", ".3.0.0.partial"):
        (tmp_path / "duts" / unfinished).mkdir()
    assert find_version(tmp_path / "duts") == epath.Path(tmp_path / "duts/1.10.0")
    assert find_version(tmp_path / "duts/1.9.0") == epath.Path(tmp_path / "duts/1.9.0")
    assert find_version(tmp_path) is None
    assert find_version(tmp_path / "nowhere") is None


def test_a_pair_is_decoded_and_its_void_is_background(tmp_path):
    labels = square(2)
    labels[0] = 255
    add_pair(tmp_path / "raw", "a", labels)
    folder = build_as(tmp_path / "tf", "image_masks", tmp_path / "raw")
    pairs = RecordPairs("duts", open_records(folder, "train", STATIC))
    assert len(pairs) == 1
    name, image, found = pairs.pair(0)
    assert name == "duts/a.jpg"
    assert abs(image.astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(found, square(2))
    assert found.dtype == np.uint8


def test_a_clip_has_the_frames_with_a_mask(tmp_path):
    masks = {names(6)[k]: square(k + 1) for k in (1, 3, 4)}
    add_video(tmp_path / "raw", "walk", masks, frames=names(6))
    folder = build_as(tmp_path / "tf", "vos_folder", tmp_path / "raw")
    clip = RecordVideos("vos", open_records(folder, "train", VIDEO)).clip(0)
    assert (clip.name, clip.length) == ("vos/walk", 3)
    for k, frame in enumerate((1, 3, 4)):
        assert (clip.image(k) == 10 * frame).all()
        np.testing.assert_array_equal(clip.labels(k), square(frame + 1))


def video(annotated):
    record = {"name": [b"a"], "frames": [b"?"] * 3, "masks": [b"?"] * 3, "annotated": annotated}
    return RecordVideos("vos", [record])


@pytest.mark.parametrize("annotated", [[0, 1], [0, 1, 9]])
def test_an_inconsistent_record_is_refused(annotated):
    with pytest.raises(InputError, match=rf"video vos/a: 3 masks, {len(annotated)} .* and 3 "):
        video(annotated).clip(0)


def test_damaged_images_in_a_record_are_named():
    clip = video([0, 1, 2]).clip(0)
    with pytest.raises(InputError, match="vos/a/frame 1"):
        clip.image(1)
    with pytest.raises(InputError, match="vos/a/mask 2"):
        clip.labels(2)
