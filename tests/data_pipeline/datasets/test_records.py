"""Any record of a TFDS dataset is had by its number; a file that is not whole is refused."""

import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from data_pipeline.datasets.built import RecordPairs, RecordVideos
from data_pipeline.datasets.records import STATIC, VIDEO, find_version, open_records
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

NAMES = [f"{i}.jpg" for i in range(7)]


@pytest.fixture(scope="module")
def pairs():
    """Seven records of different lengths, the images no images."""
    return [
        {"name": name, "image": bytes([i]) * (50 + 1000 * i), "mask": b"mask"}
        for i, name in enumerate(NAMES)
    ]


def names(records):
    return [records[i]["name"][0].decode() for i in range(len(records))]


@pytest.mark.parametrize(("shards", "offsets"), [(1, False), (3, True)])
def test_records_come_by_number_over_all_shards(shards, offsets, pairs, tmp_path):
    write_records(tmp_path, datasets.PAIR, pairs, shards=shards, offsets=offsets)
    records = open_records(tmp_path, "train", STATIC)
    assert names(records) == NAMES
    assert records[5]["image"][0] == pairs[5]["image"]
    for beyond in (-1, 7):
        with pytest.raises(IndexError):
            records[beyond]


def test_with_offsets_a_record_is_read_and_no_other(pairs, tmp_path):
    (shard,) = write_records(tmp_path, datasets.PAIR, pairs, offsets=True)
    spans = np.load(f"{shard}.offsets.npy")
    data = bytearray(shard.read_bytes())
    data[: spans[4, 0] - 12] = bytes(spans[4, 0] - 12)  # as if nothing stood before record 4
    shard.write_bytes(data)
    assert open_records(tmp_path, "train", STATIC)[4]["name"] == [b"4.jpg"]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The local folder that TensorFlow takes for gs://."""

    def redirected(function):
        return lambda path, *args: function(str(path).replace("gs://", f"{tmp_path}/"), *args)

    for name in ("GFile", "exists", "isdir", "listdir", "stat"):
        monkeypatch.setattr(tf.io.gfile, name, redirected(getattr(tf.io.gfile, name)))
    return tmp_path


@pytest.mark.parametrize("offsets", [True, False])
def test_a_bucket_is_read_as_a_disk_is(offsets, pairs, bucket):
    folder = bucket / "bucket/duts/1.0.0"
    write_records(folder, datasets.PAIR, pairs, shards=2, offsets=offsets)
    found = find_version("gs://bucket/duts")
    assert str(found) == "gs://bucket/duts/1.0.0"
    assert names(open_records(found, "train", STATIC)) == NAMES


@pytest.mark.parametrize(("lost", "offsets"), [(1, True), (1, False), (6000, False)])
def test_a_shard_cut_short_is_refused(lost, offsets, pairs, tmp_path):
    _, shard = write_records(tmp_path, datasets.PAIR, pairs, shards=2, offsets=offsets)
    shard.write_bytes(shard.read_bytes()[:-lost])
    message = rf"shard .*{shard.name}: expected 4 records, found [0-4] .*cut short"
    with pytest.raises(InputError, match=message):
        open_records(tmp_path, "train", STATIC)


def test_offsets_of_another_shard_are_refused(pairs, tmp_path):
    (shard,) = write_records(tmp_path, datasets.PAIR, pairs, offsets=True)
    path = f"{shard}.offsets.npy"
    spans = np.load(path)
    np.save(path, spans[:-1])
    with pytest.raises(InputError, match=r"expected 7 records, found 6 .*by .*offsets\.npy"):
        open_records(tmp_path, "train", STATIC)
    np.save(path, spans.astype(np.float32))
    with pytest.raises(InputError, match=r"offsets\.npy: expected int64 \[records, 2\]"):
        open_records(tmp_path, "train", STATIC)
    spans[2:5] += [[3, 0]]
    np.save(path, spans)
    with pytest.raises(InputError, match=r"expected a record of .* bytes at byte .*, found none"):
        open_records(tmp_path, "train", STATIC)[2]


def test_a_file_that_changes_or_goes_while_it_is_used_is_named(pairs, tmp_path):
    (shard,) = write_records(tmp_path, datasets.PAIR, pairs)
    records = open_records(tmp_path, "train", STATIC)
    data = bytearray(shard.read_bytes())
    start, length = records.shards[0].spans[3].tolist()
    data[start : start + length] = b"\xff" * length
    shard.write_bytes(data)
    with pytest.raises(InputError, match=rf"{shard.name}: the record at byte {start} is damaged"):
        records[3]
    shard.write_bytes(data[:100])
    with pytest.raises(InputError, match=f"{shard.name}: expected a record"):
        records[3]
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} cannot be read"):
        records[3]
    with pytest.raises(InputError, match=f"{shard.name}: no such file"):
        open_records(tmp_path, "train", STATIC)


def test_an_absent_split_and_a_damaged_description_are_told(pairs, tmp_path):
    write_records(tmp_path, datasets.PAIR, pairs)
    with pytest.raises(InputError, match=r"split val of .*: there is none; found train"):
        open_records(tmp_path, "val", STATIC)
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=f"dataset {tmp_path} cannot be read"):
        open_records(tmp_path, "train", STATIC)


def test_images_and_videos_are_told_apart_by_their_features(pairs, tmp_path):
    write_records(tmp_path / "images", datasets.PAIR, pairs)
    with pytest.raises(InputError, match=r"images holds images: name it in data\.static instead"):
        open_records(tmp_path / "images", "train", VIDEO)
    record = {"name": "a", "frames": [], "masks": [], "annotated": []}
    write_records(tmp_path / "videos", datasets.VIDEO, [record])
    with pytest.raises(InputError, match=r"videos holds videos: name it in data\.videos instead"):
        open_records(tmp_path / "videos", "train", STATIC)
    write_records(tmp_path / "other", {"x": np.int64}, [{"x": 1}])
    with pytest.raises(InputError, match="has the features x: expected annotated, frames, masks"):
        open_records(tmp_path / "other", "train", VIDEO)


def test_the_newest_version_is_taken_and_unfinished_builds_are_not(pairs, tmp_path):
    for version in ("1.9.0", "1.10.0"):
        write_records(tmp_path / "duts" / version, datasets.PAIR, pairs)
    for unfinished in ("2.0.0", "incomplete.ABC_3.0.0", ".3.0.0.partial"):
        (tmp_path / "duts" / unfinished).mkdir()
    assert find_version(tmp_path / "duts") == epath.Path(tmp_path / "duts/1.10.0")
    assert find_version(tmp_path / "duts/1.9.0") == epath.Path(tmp_path / "duts/1.9.0")
    assert find_version(tmp_path) is None
    assert find_version(tmp_path / "nowhere") is None


def test_a_pair_of_a_record_is_decoded_and_its_void_is_background(tmp_path):
    labels = square(2)
    labels[0] = 255
    add_pair(tmp_path, "a", labels)
    image, mask = tmp_path / "images/a.jpg", tmp_path / "masks/a.png"
    write_records(tmp_path / "tf", datasets.PAIR, [pair_record(image, mask, binary=False)])
    built = RecordPairs("duts", open_records(tmp_path / "tf", "train", STATIC))
    assert len(built) == 1
    name, pixels, found = built.pair(0)
    assert name == "duts/a.jpg"
    assert abs(pixels.astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(found, square(2))
    assert found.dtype == np.uint8


def test_a_clip_of_a_record_has_the_frames_with_a_mask(tmp_path):
    add_video(tmp_path, "walk", [square(k) for k in range(1, 7)])
    record = video_record(tmp_path, "walk", annotated=[1, 3, 4], binary=False)
    write_records(tmp_path / "tf", datasets.VIDEO, [record])
    clip = RecordVideos("vos", open_records(tmp_path / "tf", "train", VIDEO)).clip(0)
    assert (clip.name, clip.length) == ("vos/walk", 3)
    for k, frame in enumerate((1, 3, 4)):
        assert (clip.image(k) == 10 * frame).all()
        np.testing.assert_array_equal(clip.labels(k), square(frame + 1))


@pytest.mark.parametrize("annotated", [[0, 1], [0, 1, 9]])
def test_a_record_that_contradicts_itself_is_refused(annotated, tmp_path):
    add_video(tmp_path, "walk", [square(1)] * 3)
    record = video_record(tmp_path, "walk") | {"annotated": annotated}
    write_records(tmp_path / "tf", datasets.VIDEO, [record])
    videos = RecordVideos("vos", open_records(tmp_path / "tf", "train", VIDEO))
    with pytest.raises(InputError, match=r"video vos/walk: 3 masks, . frames .* contradict"):
        videos.clip(0)


def test_damaged_pictures_in_a_record_are_named(tmp_path):
    records = [
        {"name": "a", "frames": [b"no image"] * 3, "masks": [b"none"] * 3, "annotated": [0, 1, 2]}
    ]
    write_records(tmp_path, datasets.VIDEO, records)
    clip = RecordVideos("vos", open_records(tmp_path, "train", VIDEO)).clip(0)
    with pytest.raises(InputError, match="vos/a/frame 1 is not an image"):
        clip.image(1)
    with pytest.raises(InputError, match="vos/a/mask 2 is not an image"):
        clip.labels(2)
