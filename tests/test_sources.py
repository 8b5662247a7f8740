"""Folders become triplets of the right target; what is wrong with them is said by name."""

import numpy as np
import pytest
from PIL import Image

from data_pipeline.decode import instance_masks, read_image
from data_pipeline.sources import StaticImages, Videos, find_pairs, find_videos
from data_pipeline.triplets import Augmentation
from qmra_jax.errors import InputError

SIZE = (40, 32)  # width, height
PLAIN = Augmentation(crop=32, rotation=0, scale=(1, 1), shift=0, flip=False, tps=0, colour_jitter=0)


def rng(seed=0):
    return np.random.default_rng(seed)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def square(value=255, left=10, size=SIZE):
    mask = np.zeros(size[::-1], np.uint8)
    mask[8:20, left : left + 12] = value
    return mask


def add_pair(folder, stem, mask=None, suffix=".jpg", size=SIZE):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    save(folder / "images" / f"{stem}{suffix}", image)
    save(folder / "masks" / f"{stem}.png", square(size=size) if mask is None else mask)


def add_video(root, name, labels, split="train", year="2016"):
    """A video whose k-th frame has brightness 10 k, with these label maps."""
    for k, label in enumerate(labels):
        frame = np.full((*label.shape, 3), 10 * k % 256, np.uint8)
        save(root / "JPEGImages/480p" / name / f"{k:05d}.png", frame)
        save(root / "Annotations/480p" / name / f"{k:05d}.png", label)
    path = root / "ImageSets" / year / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lines:
        lines.write(f"{name}\n")


@pytest.mark.parametrize("value", [True, 1, 200, 255], ids=["1-bit", "0/1", "grey", "0/255"])
def test_binary_masks_of_every_kind_are_one_target(value, tmp_path):
    add_pair(tmp_path, "a", square() > 0 if value is True else square(value))
    name, triplet = StaticImages(find_pairs(tmp_path, "static/x")).triplet(0, rng(), PLAIN)
    assert name == "static/x/a.jpg#1"
    assert triplet.boxes[:, 2:].tolist() == [[12, 12]] * 3


def test_blended_edges_are_cut_in_the_middle():
    mask = square()
    mask[7, 10:22], mask[20, 10:22] = 60, 190
    (target,) = instance_masks(mask).values()
    assert target[7].sum() == 0
    assert target[20].sum() == 12


def test_instances_are_told_apart_and_void_and_specks_left_out():
    labels = np.zeros((100, 100), np.uint8)
    labels[10:40, 10:40], labels[50:90, 50:90], labels[0, 0] = 1, 2, 3
    labels[40:42, 10:40] = 255
    masks = instance_masks(labels)
    assert sorted(masks) == [1, 2]
    np.testing.assert_array_equal(masks[2], labels == 2)


def test_a_lone_speck_is_still_a_target():
    labels = np.zeros((100, 100), np.uint8)
    labels[5, 5] = 4
    assert list(instance_masks(labels)) == [4]


def test_every_instance_is_drawn_sooner_or_later(tmp_path):
    mask = square(1, left=2)
    mask[8:20, 24:36] = 2
    add_pair(tmp_path, "cats", mask)
    source = StaticImages(find_pairs(tmp_path, "cats"))
    drawn = {source.triplet(0, rng(seed), PLAIN)[0] for seed in range(20)}
    assert drawn == {"cats/cats.jpg#1", "cats/cats.jpg#2"}


def test_pairs_are_matched_by_name_whatever_the_image_suffix(tmp_path):
    add_pair(tmp_path, "b", suffix=".png")
    add_pair(tmp_path, "a", suffix=".JPG")
    (tmp_path / "images" / "._a.jpg").touch()  # macOS
    names = [(pair.image.name, pair.mask.name) for pair in find_pairs(tmp_path, "x")]
    assert names == [("a.JPG", "a.png"), ("b.png", "b.png")]


def test_video_frames_are_ordered_with_gaps_up_to_the_largest(tmp_path):
    add_video(tmp_path, "walk", [square()] * 12)
    source = Videos(find_videos(tmp_path, "mine", "train"), max_gap=3)
    gaps = set()
    for seed in range(60):
        name, triplet = source.triplet(0, rng(seed), PLAIN)
        prefix, frames = name.rsplit(" ", 1)
        assert prefix == "mine/walk/object 1/frames"
        numbers = [int(k) for k in frames.split(",")]
        assert triplet.images[:, 16, 16, 0].tolist() == [10 * k for k in numbers]
        gaps |= set(np.diff(numbers).tolist())
    assert gaps == {1, 2, 3}


def test_the_target_of_a_video_shows_in_all_three_frames(tmp_path):
    here, gone = square(), square(0)
    add_video(tmp_path, "hide", [here, gone, here, here, here, gone, gone, gone])
    source = Videos(find_videos(tmp_path, "d", "train"), max_gap=5)
    drawn = {source.triplet(0, rng(seed), PLAIN)[0][-5:] for seed in range(20)}
    assert drawn == {"0,2,3", "0,2,4", "0,3,4", "2,3,4"}


def test_three_rare_frames_are_found_by_searching(tmp_path):
    labels = [square(0)] * 200
    labels[150:153] = [square()] * 3
    add_video(tmp_path, "rare", labels)
    source = Videos(find_videos(tmp_path, "d", "train"), max_gap=5)
    assert source.triplet(0, rng(), PLAIN)[0].endswith("frames 150,151,152")


def test_shortest_video_has_three_frames(tmp_path):
    add_video(tmp_path, "short", [square()] * 3)
    source = Videos(find_videos(tmp_path, "d", "train"), max_gap=5)
    assert source.triplet(0, rng(), PLAIN)[0].endswith("frames 0,1,2")


@pytest.mark.parametrize(("year", "targets"), [("2016", {1}), ("2017", {1, 2})])
def test_objects_are_one_in_2016_and_apart_in_2017(year, targets, tmp_path):
    labels = square(1, left=2)
    labels[8:20, 24:36] = 2
    add_video(tmp_path, "two", [labels] * 3, year=year)
    source = Videos(find_videos(tmp_path, "d", "train", year), max_gap=1)
    drawn = {source.triplet(0, rng(seed), PLAIN)[0] for seed in range(20)}
    assert drawn == {f"d/two/object {target}/frames 0,1,2" for target in targets}
    widths = source.triplet(0, rng(), PLAIN)[1].boxes[:, 2]
    assert (widths > 12).all() == (year == "2016")  # from one square's left to the other's right


def test_truncated_image_is_refused_by_name(tmp_path):
    noise = rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in (".jpg", ".png"):
        path = save(tmp_path / f"whole{suffix}", noise)
        assert read_image(path).shape == (64, 64, 3)
        data = path.read_bytes()
        for part in (data[: len(data) // 2], b"", b"no image"):
            path.write_bytes(part)
            with pytest.raises(InputError, match=f"whole{suffix}"):
                read_image(path)


def test_truncated_image_with_a_thumbnail_is_refused_too(tmp_path):
    noise = rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path, comment=b"a thumbnail ends like this: \xff\xd9")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"a\.jpg cannot be read"):
        read_image(path)


def test_trailing_bytes_after_a_jpeg_do_no_harm(tmp_path):
    path = save(tmp_path / "a.jpg", np.full((16, 16, 3), 77, np.uint8))
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert (read_image(path) == 77).all()


def test_image_is_read_as_rgb(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 255
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels)
    grey = save(tmp_path / "b.png", pixels[..., 0])
    np.testing.assert_array_equal(read_image(grey), np.full((8, 8, 3), 255))


def test_missing_folders_and_partners_are_named(tmp_path):
    with pytest.raises(InputError, match=r"expected a folder .*images"):
        find_pairs(tmp_path, "x")
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="images: expected JPEG or PNG images, found none"):
        find_pairs(tmp_path, "x")
    save(tmp_path / "images" / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"expected a folder .*masks, with PNG masks"):
        find_pairs(tmp_path, "x")
    add_pair(tmp_path, "b")
    with pytest.raises(InputError, match=r"2 images and 1 masks.*without a partner: .*a\.jpg"):
        find_pairs(tmp_path, "x")
    save(tmp_path / "masks" / "a.png", square())
    save(tmp_path / "masks" / "c.png", square())
    with pytest.raises(InputError, match=r"without a partner: .*c\.png"):
        find_pairs(tmp_path, "x")


def test_one_name_with_two_suffixes_is_refused(tmp_path):
    add_pair(tmp_path, "a")
    add_pair(tmp_path, "a", suffix=".png")
    with pytest.raises(InputError, match="same name with two endings"):
        find_pairs(tmp_path, "x")


def test_image_and_mask_of_different_size_are_named(tmp_path):
    add_pair(tmp_path, "a", square(size=(50, 30)))
    with pytest.raises(InputError, match=r"a\.png is 50x30 but .*a\.jpg is 40x32"):
        StaticImages(find_pairs(tmp_path, "x")).triplet(0, rng(), PLAIN)


def test_empty_mask_is_named(tmp_path):
    add_pair(tmp_path, "a", square(0))
    with pytest.raises(InputError, match=r"a\.png is empty"):
        StaticImages(find_pairs(tmp_path, "x")).triplet(0, rng(), PLAIN)


def test_unusable_videos_are_named(tmp_path):
    add_video(tmp_path, "gone", [square(0)] * 4)
    with pytest.raises(InputError, match=r"video d/gone: no three frames with gaps of 1 to 5"):
        Videos(find_videos(tmp_path, "d", "train"), 5).triplet(0, rng(), PLAIN)
    add_video(tmp_path, "odd", [square(), square(size=(50, 30)), square()], split="odd")
    with pytest.raises(InputError, match=r"00001\.png is 50x30 but .*00000\.png is 40x32"):
        Videos(find_videos(tmp_path, "d", "odd"), 5).triplet(0, rng(), PLAIN)
    add_video(tmp_path, "blended", [square(130) + square(255, 25)] * 3, split="blended")
    with pytest.raises(InputError, match="video d/blended: a mask holds 255 and also 130"):
        Videos(find_videos(tmp_path, "d", "blended"), 5).triplet(0, rng(), PLAIN)
    add_video(tmp_path, "tiny", [square()] * 2, split="tiny")
    with pytest.raises(InputError, match="fewer than the 3 frames of a triplet in tiny"):
        find_videos(tmp_path, "d", "tiny")
