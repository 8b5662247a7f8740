"""Raw folders are read as they are; missing or inconsistent files are found on opening."""

import numpy as np
import pytest

from data_pipeline.datasets.folders import open_pairs, open_videos
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, add_youtube_video, names, save, square


def clips(*args):
    return open_videos(*args).clips


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
    files = open_pairs(tmp_path, "x").files
    assert [(i.name, m.name) for i, m in files] == [("a.JPG", "a.png"), ("b.png", "b.png")]


def test_missing_folders_and_partners_are_named(tmp_path):
    def refused(message):
        with pytest.raises(InputError, match=message):
            open_pairs(tmp_path, "x")

    refused(r"expected a folder .*images")
    (tmp_path / "images").mkdir()
    refused(r"images: .*, found nothing")
    add_pair(tmp_path, "b")
    extra = save(tmp_path / "images/a.jpg", square())
    refused(r"2 images and 1 masks.*: .*a\.jpg")
    extra.unlink()
    save(tmp_path / "masks/c.png", square())
    refused(r"1 images and 2 masks.*: .*c\.png")
    add_pair(tmp_path, "b", suffix=".png")
    refused(r"two suffixes: .*b\.png")


def test_sizes_that_differ_are_found_on_opening(tmp_path):
    add_pair(tmp_path / "s", "a", square(size=(50, 30)))
    with pytest.raises(InputError, match=r"a\.jpg is 40x32 but .*a\.png is 50x30"):
        open_pairs(tmp_path / "s", "x")
    add_video(tmp_path / "v", "odd", [square(1)] * 3)
    save(tmp_path / "v/Annotations/480p/odd/00001.png", square(1, size=(50, 30)))
    with pytest.raises(InputError, match=r"00001\.png is 40x32 but .*00001\.png is 50x30"):
        open_videos(tmp_path / "v", "x")


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_objects_are_one_in_2016_and_separate_in_2017(year, tmp_path):
    labels = square(1, left=2) + square(2, left=24)
    labels[0] = 255  # void
    add_video(tmp_path, "two", [labels] * 3, "train", year)
    (clip,) = clips(tmp_path, "d", "train", year)
    expected = labels.copy()
    if year == "2016":
        expected = ((labels == 1) | (labels == 2)).astype(np.uint8)
    assert clip.name == "d/two"
    np.testing.assert_array_equal(clip.labels(1), expected)


@pytest.mark.parametrize("split", ["train", None])
def test_255_is_the_object_if_a_video_has_no_ids_and_void_otherwise(split, tmp_path):
    add_video(tmp_path / "a", "binary", [square(0), square(255), square(255)], split)
    (clip,) = clips(tmp_path / "a", "d", split)
    assert [clip.labels(k).max() for k in range(3)] == [0, 1, 1]
    np.testing.assert_array_equal(clip.labels(1), square(1))
    add_video(tmp_path / "b", "ids", [square(0), square(1), square(255)], split)
    (clip,) = clips(tmp_path / "b", "d", split)
    np.testing.assert_array_equal(clip.labels(2), square(0 if split else 255))


@pytest.mark.parametrize("edge", [60, 130])
def test_a_mask_with_grey_edges_is_refused(edge, tmp_path):
    masks = [square(255), square(255) // 255 * edge + square(255, 25), square(255)]
    add_video(tmp_path, "blended", masks)
    (clip,) = clips(tmp_path, "d")
    clip.labels(0)
    with pytest.raises(InputError, match=rf"00001\.png holds 255 and also {edge}"):
        clip.labels(1)


def test_a_folder_without_lists_has_all_videos_and_one_with_lists_needs_a_split(tmp_path):
    for name in "ba":
        add_video(tmp_path, name, [square(1)] * 3)
    assert [clip.name for clip in clips(tmp_path, "mine")] == ["mine/a", "mine/b"]
    add_video(tmp_path, "b", [square(1)] * 3, "val", "2017")
    with pytest.raises(InputError, match=r"has the splits 2017/val.* mine:val:2017"):
        open_videos(tmp_path, "mine")
    assert [clip.name for clip in clips(tmp_path, "mine", "val", "2017")] == ["mine/b"]


def test_a_list_of_both_years_needs_the_year(tmp_path):
    for year in ("2016", "2017"):
        add_video(tmp_path, f"of{year}", [square(2)] * 3, "train", year)
    with pytest.raises(InputError, match=r"2016 and of 2017: .*d:train:2016"):
        open_videos(tmp_path, "d", "train")
    for year in ("2016", "2017"):
        (clip,) = clips(tmp_path, "d", "train", year)
        assert (clip.name, clip.merged) == (f"d/of{year}", year == "2016")


def test_only_frames_with_masks_are_part_of_a_clip(tmp_path):
    masks = {stamp: square(k) for k, stamp in enumerate(names(5), 1) if k != 2}
    add_video(tmp_path, "a", masks, frames=names(5))
    (clip,) = clips(tmp_path, "mine")
    assert clip.length == 4
    assert [clip.labels(k).max() for k in range(4)] == [1, 3, 4, 5]
    assert [round(clip.image(k).mean()) for k in range(4)] == [0, 20, 30, 40]


def test_a_video_too_short_for_a_triplet_is_named(tmp_path):
    add_video(tmp_path, "tiny", [square()] * 2)
    add_video(tmp_path, "long", [square()] * 3)
    with pytest.raises(InputError, match=r"fewer than the 3 masks .* d/tiny: leave it"):
        open_videos(tmp_path, "d")


@pytest.fixture
def youtube(tmp_path):
    """A YouTube-VOS root: a video of six frames, every one with a mask in train, three in valid."""
    stamps = names(6, 5)
    for split, annotated in (("train", stamps), ("valid", [stamps[k] for k in (0, 2, 5)])):
        masks = dict.fromkeys(annotated, square(1))
        add_youtube_video(tmp_path / split, "clip", {1: annotated}, masks, stamps, ".png")
    return tmp_path


def test_youtube_vos_splits_are_read_and_frames_without_a_mask_left_out(youtube):
    (by_folder,) = clips(youtube / "train", "y")
    (by_name,) = clips(youtube, "y", "train")
    assert by_folder == by_name
    assert by_folder.length == 6
    (clip,) = clips(youtube / "valid", "y")
    assert [clip.image(k)[0, 0, 0] for k in range(clip.length)] == [0, 20, 50]
    np.testing.assert_array_equal(clip.labels(2), square(1))


def test_a_wrong_split_or_year_of_youtube_vos_is_refused(youtube):
    (youtube / "train/Annotations/clip/00005.png").unlink()
    for args, message in (
        ((youtube, "y"), r"has the splits train, valid: .* y:train"),
        ((youtube / "train", "y", "val"), "leave out val"),
        ((youtube, "y", "train", "2019"), "leave out 2019"),
        ((youtube / "train", "y"), "video clip: .*: 00005"),
    ):
        with pytest.raises(InputError, match=message):
            open_videos(*args)
