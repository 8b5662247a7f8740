"""Raw folders are read as they are; what is missing or misfit in them is said before any work."""

import json

import numpy as np
import pytest

from data_pipeline.datasets.folders import find_pairs, find_videos, open_pairs, open_videos
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, save, square


def test_a_pair_is_its_image_and_its_labels_as_stored(tmp_path):
    add_pair(tmp_path, "a", square(3))
    name, image, labels = open_pairs(tmp_path, "static/x").pair(0)
    assert name == "static/x/a.jpg"
    assert abs(image.astype(int) - 90).max() <= 1
    np.testing.assert_array_equal(labels, square(3))


def test_pairs_are_matched_by_name_whatever_the_image_suffix(tmp_path):
    add_pair(tmp_path, "b", suffix=".png")
    add_pair(tmp_path, "a", suffix=".JPG")
    (tmp_path / "images" / "._a.jpg").touch()  # macOS
    names = [(pair.image.name, pair.mask.name) for pair in find_pairs(tmp_path, "x")]
    assert names == [("a.JPG", "a.png"), ("b.png", "b.png")]


def test_missing_folders_and_partners_are_named(tmp_path):
    with pytest.raises(InputError, match=r"expected a folder .*images"):
        find_pairs(tmp_path, "x")
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"images: expected images .*, found nothing"):
        find_pairs(tmp_path, "x")
    add_pair(tmp_path, "b")
    extra = save(tmp_path / "images/a.jpg", square())
    with pytest.raises(InputError, match=r"2 images and 1 masks.*: .*a\.jpg"):
        find_pairs(tmp_path, "x")
    extra.unlink()
    save(tmp_path / "masks/c.png", square())
    with pytest.raises(InputError, match=r"1 images and 2 masks.*: .*c\.png"):
        find_pairs(tmp_path, "x")
    add_pair(tmp_path, "b", suffix=".png")
    with pytest.raises(InputError, match=r"two endings: .*b\.png"):
        find_pairs(tmp_path, "x")


def test_sizes_that_differ_are_named_before_any_work(tmp_path):
    add_pair(tmp_path / "s", "a", square(size=(50, 30)))
    with pytest.raises(InputError, match=r"a\.jpg is 40x32 but .*a\.png is 50x30"):
        open_pairs(tmp_path / "s", "x")
    add_video(tmp_path / "v", "odd", [square(1)] * 3)
    save(tmp_path / "v/Annotations/480p/odd/00001.png", square(1, size=(50, 30)))
    with pytest.raises(InputError, match=r"00001\.png is 40x32 but .*00001\.png is 50x30"):
        open_videos(tmp_path / "v", "x", "train")


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_objects_are_one_in_2016_and_apart_in_2017(year, tmp_path):
    labels = square(1, left=2) + square(2, left=24)
    labels[0] = 255  # void
    add_video(tmp_path, "two", [labels] * 3, year=year)
    (clip,) = open_videos(tmp_path, "d", "train", year).clips
    expected = labels.copy()
    if year == "2016":
        expected = ((labels == 1) | (labels == 2)).astype(np.uint8)
    assert clip.name == "d/two"
    np.testing.assert_array_equal(clip.labels(1), expected)


@pytest.mark.parametrize("split", ["train", None])
def test_255_is_the_object_where_a_video_has_no_ids_else_void(split, tmp_path):
    add_video(tmp_path / "a", "binary", [square(0), square(255), square(255)], split)
    (clip,) = open_videos(tmp_path / "a", "d", split).clips
    assert [clip.labels(k).max() for k in range(3)] == [0, 1, 1]
    np.testing.assert_array_equal(clip.labels(1), square(1))
    add_video(tmp_path / "b", "ids", [square(0), square(1), square(255)], split)
    (clip,) = open_videos(tmp_path / "b", "d", split).clips
    np.testing.assert_array_equal(clip.labels(2), square(0 if split else 255))


@pytest.mark.parametrize("edge", [60, 130])
def test_a_mask_with_blended_edges_is_refused_by_name(edge, tmp_path):
    masks = [square(255), square(255) // 255 * edge + square(255, 25), square(255)]
    add_video(tmp_path, "blended", masks)
    (clip,) = open_videos(tmp_path, "d", "train").clips
    clip.labels(0)
    with pytest.raises(InputError, match=rf"00001\.png holds 255 and also {edge}"):
        clip.labels(1)


def test_a_folder_without_lists_gives_every_video_and_one_with_lists_must_be_told(tmp_path):
    add_video(tmp_path, "b", [square(1)] * 3, split=None)
    add_video(tmp_path, "a", [square(1)] * 3, split=None)
    assert [clip.name for clip in find_videos(tmp_path, "mine")] == ["mine/a", "mine/b"]
    add_video(tmp_path, "b", [square(1)] * 3, split="val", year="2017")
    with pytest.raises(InputError, match=r"has the splits 2017/val.*such as mine:val:2017"):
        find_videos(tmp_path, "mine")
    assert [clip.name for clip in find_videos(tmp_path, "mine", "val", "2017")] == ["mine/b"]


def test_a_list_of_both_years_must_be_told_by_its_year(tmp_path):
    for year in ("2016", "2017"):
        add_video(tmp_path, f"of{year}", [square(2)] * 3, year=year)
    with pytest.raises(InputError, match=r"train of 2016 and of 2017: expected d:train:2016"):
        find_videos(tmp_path, "d", "train")
    for year in ("2016", "2017"):
        (clip,) = find_videos(tmp_path, "d", "train", year)
        assert (clip.name, clip.merged) == (f"d/of{year}", year == "2016")


def test_one_s_own_videos_need_no_mask_for_every_frame(tmp_path):
    add_video(tmp_path, "a", [square(k) for k in (1, 2, 3, 4, 5)], split=None)
    for k in (1, 3):
        (tmp_path / f"Annotations/480p/a/{k:05d}.png").unlink()
    clip = open_videos(tmp_path, "mine").clip(0)
    assert clip.length == 3
    assert [clip.labels(k).max() for k in range(3)] == [1, 3, 5]
    assert [round(clip.image(k).mean()) for k in range(3)] == [0, 20, 40]


def test_a_video_too_short_for_a_triplet_is_named(tmp_path):
    add_video(tmp_path, "tiny", [square()] * 2)
    add_video(tmp_path, "long", [square()] * 3)
    with pytest.raises(InputError, match="fewer than the 3 masks of a triplet in d/tiny: leave it"):
        find_videos(tmp_path, "d", "train")


@pytest.fixture
def youtube(tmp_path):
    """A YouTube-VOS root: a video of six frames, every one with a mask in train, three in valid."""
    for split, annotated in (("train", range(6)), ("valid", (0, 2, 5))):
        for k in range(6):
            name = f"clip/{5 * k:05d}"
            frame = np.full((32, 40, 3), 10 * k, np.uint8)
            save(tmp_path / split / "JPEGImages" / f"{name}.jpg", frame)
            if k in annotated:
                save(tmp_path / split / "Annotations" / f"{name}.png", square(1))
        listed = [f"{5 * k:05d}" for k in annotated]
        objects = {"1": {"category": "cat", "frames": listed}}
        meta = {"videos": {"clip": {"objects": objects}}}
        (tmp_path / split / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_a_youtube_vos_split_is_read_by_its_folder_or_by_its_name(youtube):
    (by_folder,) = open_videos(youtube / "train", "y").clips
    (by_name,) = open_videos(youtube, "y", "train").clips
    assert by_folder == by_name
    assert by_folder.length == 6


def test_frames_without_a_mask_are_no_part_of_a_clip(youtube):
    (clip,) = open_videos(youtube / "valid", "y").clips
    assert clip.length == 3
    assert [int(clip.image(k)[0, 0, 0].round(-1)) for k in range(3)] == [0, 20, 50]
    np.testing.assert_array_equal(clip.labels(2), square(1))


def test_a_youtube_vos_folder_is_not_misread(youtube):
    with pytest.raises(InputError, match=r"has the splits train, valid: .*such as y:train"):
        open_videos(youtube, "y")
    with pytest.raises(InputError, match="is a split by itself: leave out val"):
        open_videos(youtube / "train", "y", "val")
    with pytest.raises(InputError, match="splits have no year: leave out 2019"):
        open_videos(youtube, "y", "train", "2019")
    (youtube / "train/Annotations/clip/00005.png").unlink()
    with pytest.raises(InputError, match="video clip: frames without a mask: 00005"):
        open_videos(youtube / "train", "y")
