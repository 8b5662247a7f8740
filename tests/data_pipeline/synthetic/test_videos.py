"""Procedural videos: a function of their number, with masks that tell exactly what is visible."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipeline.builders.synthetic import synthetic_dataset_builder
from data_pipeline.datasets import davis
from data_pipeline.datasets.built import RecordVideos
from data_pipeline.datasets.records import VIDEO, open_records
from data_pipeline.datasets.targets import MIN_TARGET
from data_pipeline.synthetic import videos
from data_pipeline.synthetic.render import draw_image, draw_labels
from data_pipeline.synthetic.scene import Layer, Part, Scene
from data_pipeline.synthetic.shapes import Motion, Outline, ellipse
from data_pipeline.synthetic.textures import FAMILIES, Material, tile
from data_pipeline.synthetic.videos import SyntheticVideos, export
from data_pipeline.triplets.sources import video_example
from data_pipeline.triplets.triplets import Augmentation
from qmra_jax.boxes import mask_to_box
from qmra_jax.errors import InputError
from qmra_jax.images import read_image
from qmra_jax.masks import read_labels
from tests.support.tiny import disc

SMALL = SyntheticVideos("train", 60)  # pixels high, for speed
SIZE = (90, 160)


def flat(*colour):
    mix = np.concatenate([np.zeros((3, 3)), np.array(colour, float)[:, None]], axis=1)
    return Material("clouds", 0, mix, np.eye(2, 3))


def at(x, y, size=1.0):
    return Motion(np.array([x, y, 0.0, np.log(size)]))


def layer(label, outline, motion, colour):
    return Layer(label, Part(outline, flat(*colour), at(0, 0)), motion, fixed=False)


def scene(*layers):
    """A still scene on dark ground, in even light, without noise."""
    light, flicker = np.ones((3, 4, 3)), np.zeros((3, 4, 3))
    return Scene(flat(20, 20, 20), at(0, 0), layers, light, flicker, 0.0, 0.0, 0.0)


def picture(of, size=SIZE):
    return draw_image(of, 0, *size, np.random.default_rng(0)).astype(int)


def square(side, x, y):
    """A square of a side in pixels, its middle at a pixel position (edges at whole numbers)."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    height, width = SIZE
    motion = at((x - width / 2) / height, (y - height / 2) / height, side / height)
    return Outline(corners, np.zeros((0, 4))), motion


@pytest.fixture(scope="module")
def some():
    """The first videos, whose labels are drawn once."""
    return [
        (clip := SMALL.clip(i), [clip.labels(k) for k in range(clip.length)]) for i in range(40)
    ]


def test_a_frame_is_a_function_of_split_number_and_time_in_any_order_by_any_thread():
    frames = [(item, k) for item in (3, 77) for k in (0, 9, 23)]

    def draw(frame):
        clip = SyntheticVideos("train", 60).clip(frame[0])
        return clip.image(frame[1]), clip.labels(frame[1])

    first = {frame: draw(frame) for frame in frames}
    videos._scene.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        again = dict(zip(frames[::-1], pool.map(draw, frames[::-1]), strict=True))
    for frame in frames:
        assert np.array_equal(first[frame][0], again[frame][0])
        assert np.array_equal(first[frame][1], again[frame][1])


def test_videos_splits_and_frames_differ():
    images = [
        SyntheticVideos(split, 60).clip(item).image(k)
        for split, item, k in (("train", 0, 0), ("train", 1, 0), ("val", 0, 0), ("train", 0, 5))
    ]
    for i, one in enumerate(images):
        for other in images[i + 1 :]:
            assert np.abs(one.astype(int) - other).mean() > 1


def test_frames_have_the_promised_form():
    clip = SyntheticVideos("val").clip(7)
    image, labels = clip.image(4), clip.labels(4)
    assert clip.name == "synthetic/val/00007"
    assert clip.length >= 11  # a triplet of the largest usual gaps
    assert (image.shape, image.dtype) == ((240, 427, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((240, 427), np.uint8)
    assert set(np.unique(labels)) <= {0, *clip.scene.labels}
    assert clip.scene.labels == tuple(range(1, len(clip.scene.labels) + 1))


def test_another_size_shows_the_same_scene():
    clips = [SyntheticVideos("train", height).clip(3) for height in (60, 120)]
    small, large = (clip.labels(10) for clip in clips)
    same = large[::2, ::2][: small.shape[0], : small.shape[1]] == small
    assert same.mean() > 0.97


def test_the_mask_is_what_is_visible_by_depth_order():
    below = layer(1, ellipse(1, 1), at(-0.1, 0.0, 0.25), (200, 40, 40))
    above = layer(2, ellipse(1, 1), at(0.1, 0.05, 0.2), (40, 200, 40))
    hider = layer(0, ellipse(1, 1), at(0.0, -0.2, 0.15), (40, 40, 200))
    height, width = SIZE
    expected = np.zeros(SIZE, np.uint8)
    near = np.zeros(SIZE, bool)  # within a pixel of an outline, where pixels are shared
    for x, y, radius, label in ((-0.1, 0, 0.25, 1), (0.1, 0.05, 0.2, 2), (0.0, -0.2, 0.15, 0)):
        centre = (width - 1) / 2 + height * x, (height - 1) / 2 + height * y
        expected[disc(SIZE, centre, height * radius)] = label
        near |= disc(SIZE, centre, height * radius + 1) ^ disc(SIZE, centre, height * radius - 1)
    drawn = scene(below, above, hider)
    labels = draw_labels(drawn, 0, *SIZE)
    assert np.array_equal(labels[~near], expected[~near])
    assert set(np.unique(labels)) == {0, 1, 2}
    image = picture(drawn)
    for label, colour in ((1, (200, 40, 40)), (2, (40, 200, 40))):
        assert np.abs(image[(labels == label) & ~near] - colour).max() <= 1
    unlabelled = image[(labels == 0) & ~near]
    ground, hiding = (np.abs(unlabelled - c).max(axis=1) <= 1 for c in ((20,) * 3, (40, 40, 200)))
    assert (ground | hiding).all()
    assert hiding.any()


@pytest.mark.parametrize(("beyond", "seen"), [(0.2, False), (0.8, True)])
def test_a_pixel_is_labelled_from_half_coverage_on_and_only_the_picture_is_soft(beyond, seen):
    outline, motion = square(20, 60 + beyond, 40)  # columns 50 + beyond to 70 + beyond
    drawn = scene(layer(1, outline, motion, (220, 220, 220)))
    labels, image = draw_labels(drawn, 0, *SIZE), picture(drawn)
    assert bool(labels[40, 70]) == seen
    assert bool(labels[40, 50]) != seen
    share = (image[40, [50, 70], 0] - 20) / 200
    assert share == pytest.approx([1 - beyond, beyond], abs=0.15)
    assert np.array_equal(labels > 0, image[..., 0] >= 120)


def test_motion_blur_spreads_the_picture_about_the_mask():
    outline, motion = square(20, 60.1, 40.1)
    moving = dataclasses.replace(motion, drift=np.array([6 / SIZE[0], 0, 0, 0]))
    drawn = scene(layer(1, outline, moving, (220, 220, 220)))
    share = (picture(dataclasses.replace(drawn, shutter=1.0))[40, :, 0] - 20) / 200
    assert ((share > 0.1) & (share < 0.9)).sum() >= 8  # of 6 pixels at either end
    assert share.sum() == pytest.approx(20, abs=0.2)
    # It reaches as far out of the mask as into it.
    assert np.arange(SIZE[1]) @ share / share.sum() == pytest.approx(59.6, abs=0.15)
    labels = draw_labels(drawn, 0, *SIZE)[40]
    assert np.flatnonzero(labels).tolist() == list(range(50, 70))


def test_every_object_shows_at_first_and_one_of_them_goes_on(some):
    least = 0.8 * videos.MIN_SHARE  # which is of frames of another size
    assert least > MIN_TARGET  # of what triplets are drawn
    for clip, labels in some:
        shares = np.stack([np.bincount(m.ravel(), minlength=9) / m.size for m in labels[:3]])
        objects = list(clip.scene.labels)
        assert (shares[0, objects] >= least).all(), clip.name
        assert (shares[:, objects].min(axis=0) >= least).any(), clip.name


def test_there_are_videos_of_one_object_and_of_several(some):
    counts = [len(clip.scene.labels) for clip, _ in some]
    assert {1, 2, 3} <= set(counts) <= {1, 2, 3, 4}


def test_some_objects_leave_the_picture_and_return(some):
    leaving = [(label, masks) for clip, masks in some for label in clip.scene.leavers]
    assert len(leaving) >= 4
    for label, masks in leaving:
        shown = [(mask == label).mean() >= 0.8 * videos.MIN_SHARE for mask in masks]
        assert shown[0]
        assert shown[-1]
        assert not all((mask == label).any() for mask in masks)


def test_objects_hide_one_another_and_are_hidden(some):
    def alone(clip, label, k):
        layers = tuple(layer for layer in clip.scene.layers if layer.label == label)
        only = dataclasses.replace(clip.scene, layers=layers)
        return draw_labels(only, k, clip.height, clip.width)

    hidden = [
        (alone(clip, 1, 12) == 1).sum() > 1.2 * (masks[12] == 1).sum() > 0 for clip, masks in some
    ]
    assert sum(hidden) >= 3


def test_distractors_are_of_the_same_stuff_and_form_as_an_object_and_some_are_objects(some):
    def bodies(clip, label):
        return [x for x in clip.scene.layers if x.label == label and not x.fixed]

    def alike(one, other):
        stuff, form = one.part.material, one.part.outline.rest
        return (
            stuff.family == other.part.material.family
            and np.array_equal(form, other.part.outline.rest)
            and np.abs(stuff.colour - other.part.material.colour).max() <= 24
            and not np.array_equal(one.motion.start, other.motion.start)
        )

    background = objects = 0
    for clip, _ in some:
        first = bodies(clip, 1)
        distractors = bodies(clip, 0)
        assert all(any(alike(d, part) for part in first) for d in distractors)
        background += bool(distractors)
        objects += any(alike(d, part) for d in bodies(clip, 2) for part in first)
    assert background >= 10
    assert objects >= 3


def test_objects_deform_and_move_while_the_camera_moves(some):
    for clip, masks in some[:10]:
        moved = (masks[0] != masks[6]).mean()
        assert moved > 0.002, clip.name
    outlines = [clip.scene.layers[-1].part.outline for clip, _ in some]
    waves = [x for x in outlines if len(x.waves)]
    assert waves
    assert all(not np.allclose(x.at(0), x.at(6)) for x in waves)
    assert all(np.hypot(*x.at(t).T).max() <= x.reach + 1e-9 for x in waves for t in range(24))


def test_triplets_of_them_have_tight_boxes():
    augmentation = Augmentation(crop=48)
    for item in range(5):
        rng = np.random.default_rng(item)
        name, triplet = video_example(SMALL, item, rng, augmentation, 5)
        assert name.startswith(f"synthetic/train/{item:05d}/object ")
        assert triplet.masks.any(axis=(1, 2)).all()
        assert np.array_equal(triplet.boxes, mask_to_box(triplet.masks))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_tiles_repeat_without_a_seam(family):
    pixels = tile(family, 0).astype(int)
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis, append=pixels.take([0], axis))).mean(
            axis=(1 - axis, 2)
        )
        assert steps[-1] <= 1.5 * steps[:-1].max()
    assert pixels[..., 0].std() > 20


def test_what_is_not_there_is_refused():
    with pytest.raises(InputError, match="split 'test': expected train, val, tiny"):
        SyntheticVideos("test")
    with pytest.raises(InputError, match="height 8: expected at least 32"):
        SyntheticVideos("val", 8)
    videos = SyntheticVideos("val")
    with pytest.raises(IndexError, match="expected 0 to 19"):
        videos.clip(20)
    with pytest.raises(IndexError, match="frame 24 of synthetic/val/00000"):
        videos.clip(0).labels(24)


def test_an_export_reads_as_davis_of_both_years(tmp_path):
    root = tmp_path / "new" / "made"
    export(root, "val", 2, 36)
    for year in ("2016", "2017"):
        sequences = davis.find_sequences(root, year=year, split="val")
        assert [s.name for s in sequences] == ["val-00000", "val-00001"]
    for item, sequence in enumerate(sequences):
        clip = SyntheticVideos("val", 36).clip(item)
        assert len(sequence.frames) == clip.length
        for k in (0, clip.length - 1):
            assert np.array_equal(read_labels(sequence.annotations[k]), clip.labels(k))
            error = read_image(sequence.frames[k]).astype(int) - clip.image(k)
            assert np.abs(error).mean() < 8
    assert [p.name for p in root.parent.iterdir()] == ["made"]


def test_an_export_overwrites_nothing_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="used exists and is not an empty folder"):
        export(used, "val", 1, 36)
    with pytest.raises(InputError, match="count 21: expected 1 to 20"):
        export(tmp_path / "more", "val", 21, 36)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(videos, "write_labels", full)
    with pytest.raises(OSError, match="disk full"):
        export(tmp_path / "half", "val", 1, 36)
    assert [p.name for p in tmp_path.iterdir()] == ["used"]
    assert [p.name for p in used.iterdir()] == ["mine.txt"]


def test_a_built_dataset_holds_the_same_videos(tmp_path):
    config = synthetic_dataset_builder.Config(name="tiny", train=2, val=1, height=36)
    builder = synthetic_dataset_builder.Builder(config=config, data_dir=tmp_path)
    builder.download_and_prepare()  # without a manual_dir
    found = tfds.builder_from_directory(builder.data_path)
    assert {name: split.num_examples for name, split in found.info.splits.items()} == {
        "train": 2,
        "val": 1,
    }
    clips = RecordVideos("made", open_records(builder.data_path, "train", VIDEO))
    names = {clips.clip(i).name: clips.clip(i) for i in range(2)}
    assert sorted(names) == ["made/00000", "made/00001"]
    drawn = SyntheticVideos("train", 36).clip(1)
    read = names["made/00001"]
    assert read.length == drawn.length
    assert np.array_equal(read.labels(9), drawn.labels(9))
    assert np.abs(read.image(9).astype(int) - drawn.image(9)).mean() < 8
