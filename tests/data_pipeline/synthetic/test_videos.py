"""Procedural videos: a function of their number, with masks of exactly what is visible."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest

from data_pipeline.build import build
from data_pipeline.builders.synthetic import synthetic_dataset_builder
from data_pipeline.datasets import davis
from data_pipeline.datasets.built import RecordVideos
from data_pipeline.datasets.records import VIDEO, open_records
from data_pipeline.datasets.targets import MIN_TARGET
from data_pipeline.synthetic import videos
from data_pipeline.synthetic.render import draw_image, draw_labels
from data_pipeline.synthetic.scene import ANGLES, Figure, Motion, Scene
from data_pipeline.synthetic.textures import TILES, Texture, tile
from data_pipeline.synthetic.videos import SyntheticVideos, export
from qmra_jax.errors import InputError
from qmra_jax.images import read_image
from qmra_jax.masks import read_labels
from tests.support.reading import decoded
from tests.support.tiny import disc

SMALL = SyntheticVideos("train", 60)  # pixels high, for speed
SIZE = (90, 160)
STILL = Motion(np.zeros(4), np.zeros((3, 4)))


def plain(colour):
    mix = np.stack([np.zeros(3), np.array(colour, float)], axis=1)
    return Texture(0, mix, np.eye(2, 3))


def figure(label, x, y, size, colour, radius=1):
    """A still figure of one colour at x, y in frame heights."""
    motion = Motion(np.array([x, y, 0, np.log(size)]), np.zeros((3, 4)))
    return Figure(label, radius * np.ones_like(ANGLES), np.zeros((4, 0)), plain(colour), motion)


def scene(*figures):
    """A still scene on dark ground, without noise."""
    return Scene(plain((20, 20, 20)), STILL, figures, 0.0)


def image_of(drawn):
    return draw_image(drawn, 0, *SIZE, np.random.default_rng(0)).astype(int)


@pytest.fixture(scope="module")
def some():
    """The first videos and their labels."""
    return [
        (clip := SMALL.clip(i), [clip.labels(k) for k in range(clip.length)]) for i in range(40)
    ]


def test_a_frame_is_a_function_of_split_number_and_time_in_any_order_and_thread():
    frames = [(item, k) for item in (3, 77) for k in (0, 23)]

    def draw(frame):
        clip = SMALL.clip(frame[0])
        return clip.image(frame[1]), clip.labels(frame[1])

    first = [draw(frame) for frame in frames]
    videos._scene.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        again = list(pool.map(draw, frames[::-1]))[::-1]
    for (image, labels), (same_image, same_labels) in zip(first, again, strict=True):
        np.testing.assert_array_equal(image, same_image)
        np.testing.assert_array_equal(labels, same_labels)


def test_videos_splits_and_frames_differ():
    images = [
        SyntheticVideos(split, 60).clip(item).image(k)
        for split, item, k in (("train", 0, 0), ("train", 1, 0), ("val", 0, 0), ("train", 0, 5))
    ]
    for i, one in enumerate(images):
        for other in images[i + 1 :]:
            assert np.abs(one.astype(int) - other).mean() > 1


def test_shapes_and_types_and_another_size_shows_the_same_scene():
    clip = SyntheticVideos("val").clip(7)
    image, labels = clip.image(4), clip.labels(4)
    assert clip.name == "synthetic/val/00007"
    assert clip.length >= 11  # a triplet of the largest usual gaps
    assert (image.shape, image.dtype) == ((240, 427, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((240, 427), np.uint8)
    assert set(np.unique(labels)) <= {0, *clip.scene.labels}
    assert clip.scene.labels == set(range(1, len(clip.scene.labels) + 1))
    small, large = (SyntheticVideos("train", height).clip(3).labels(10) for height in (60, 120))
    assert (large[::2, ::2][: small.shape[0], : small.shape[1]] == small).mean() > 0.97


def test_the_mask_is_what_is_visible_in_depth_order():
    discs = [  # label, x, y, radius, colour, from below
        (1, -0.1, 0.0, 0.25, (200, 40, 40)),
        (2, 0.1, 0.05, 0.2, (40, 200, 40)),
        (0, 0.0, -0.2, 0.15, (40, 40, 200)),
    ]
    height, width = SIZE
    expected, colours = np.zeros(SIZE, np.uint8), np.full((*SIZE, 3), 20)
    near = np.zeros(SIZE, bool)  # within a pixel of an outline, where pixels are shared
    for label, x, y, radius, colour in discs:
        centre = (width - 1) / 2 + height * x, (height - 1) / 2 + height * y
        inside = disc(SIZE, centre, height * radius)
        expected[inside], colours[inside] = label, colour
        near |= disc(SIZE, centre, height * radius + 1) ^ disc(SIZE, centre, height * radius - 1)
    drawn = scene(*(figure(*one) for one in discs))
    labels = draw_labels(drawn, 0, *SIZE)
    assert np.array_equal(labels[~near], expected[~near])
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.abs(image_of(drawn) - colours)[~near].max() <= 1


@pytest.mark.parametrize(("beyond", "seen"), [(0.2, False), (0.8, True)])
def test_a_pixel_is_labelled_from_half_coverage_on_and_only_the_image_is_soft(beyond, seen):
    height, width = SIZE
    square = 0.5 / np.maximum(abs(np.cos(ANGLES)), abs(np.sin(ANGLES)))
    x, y = (60 + beyond - width / 2) / height, (40 - height / 2) / height
    drawn = scene(figure(1, x, y, 20 / height, (220, 220, 220), square))  # columns 50 to 70
    labels, image = draw_labels(drawn, 0, *SIZE), image_of(drawn)
    assert bool(labels[40, 70]) == seen
    assert bool(labels[40, 50]) != seen
    share = (image[40, [50, 70], 0] - 20) / 200
    assert share == pytest.approx([1 - beyond, beyond], abs=0.15)
    assert np.array_equal(labels > 0, image[..., 0] >= 120)


def test_every_object_is_visible_in_the_first_frames_and_the_last_and_some_leave_in_between(some):
    least = 0.8 * videos.MIN_SHARE  # which holds for frames of another size
    assert least > MIN_TARGET  # of what triplets are drawn
    leaving = 0
    for clip, masks in some:
        shares = np.stack([np.bincount(m.ravel(), minlength=9) / m.size for m in masks])
        shares = shares[:, sorted(clip.scene.labels)]
        assert (shares[[0, 1, 2, -1]] >= least).all(), clip.name
        leaving += (shares.min(axis=0) == 0).sum()
    assert leaving >= 4
    counts = {len(clip.scene.labels) for clip, _ in some}
    assert {1, 2, 3} <= counts <= {1, 2, 3, 4}


def test_objects_occlude_one_another_and_are_occluded(some):
    def alone(clip, label, k):
        figures = tuple(figure for figure in clip.scene.figures if figure.label == label)
        return draw_labels(dataclasses.replace(clip.scene, figures=figures), k, *clip._size)

    occluded = [
        any(
            (alone(clip, label, k) == label).sum() > 1.2 * (masks[k] == label).sum() > 0
            for label in clip.scene.labels
            for k in (6, 12, 18)
        )
        for clip, masks in some
    ]
    assert sum(occluded) >= 8


def test_look_alikes_share_shape_and_texture_and_some_are_objects(some):
    def alike(one, other):
        return (
            np.array_equal(one.radius, other.radius)
            and one.texture.tile == other.texture.tile
            and np.abs(one.texture.colour - other.texture.colour).max() <= 12
        )

    background = objects = 0
    for clip, _ in some:
        (first,) = (figure for figure in clip.scene.figures if figure.label == 1)
        others = [figure for figure in clip.scene.figures if alike(figure, first)]
        background += any(figure.label == 0 for figure in others)
        objects += any(figure.label == 2 for figure in others)
    assert background >= 10
    assert objects >= 3


def test_objects_move_and_deform_in_colours_unlike_the_background(some):
    for clip, masks in some[:10]:
        assert (masks[0] != masks[6]).mean() > 0.002, clip.name
        (first,) = (figure for figure in clip.scene.figures if figure.label == 1)
        assert not np.allclose(first.outline(0), first.outline(6))
        difference = clip.image(0)[masks[0] == 1].mean(axis=0) - clip.scene.background.colour
        assert np.linalg.norm(difference) > 20


@pytest.mark.parametrize("number", range(TILES))
def test_tiles_repeat_without_a_seam(number):
    pixels = tile(number).astype(int)
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis, append=pixels.take([0], axis))).mean(1 - axis)
        assert steps[-1] <= 1.5 * steps[:-1].max()
    assert pixels.std() > 20


def test_an_unknown_split_or_a_small_height_is_refused():
    with pytest.raises(InputError, match="'test'"):
        SyntheticVideos("test")
    with pytest.raises(InputError, match="height 8"):
        SyntheticVideos("val", 8)


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
            assert np.abs(error).mean() < 12
    assert [p.name for p in root.parent.iterdir()] == ["made"]


def test_an_export_overwrites_nothing_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="used"):
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


def test_a_built_dataset_holds_the_same_videos_and_needs_no_manual_dir(tmp_path, monkeypatch):
    module = synthetic_dataset_builder
    config = module.Config(name="small", train=2, val=1, height=36)
    monkeypatch.setattr(module.Builder, "BUILDER_CONFIGS", (config,))
    build("synthetic/small", data_dir=tmp_path)
    (folder,) = tmp_path.glob("synthetic/small/*.0.0")
    assert len(decoded(folder, "val")) == 1
    for record in decoded(folder):
        ids, shown = record["objects"]["id"], record["objects"]["frames"]
        masks = record["masks"] == ids[:, None, None, None, None]
        np.testing.assert_array_equal(masks.any(axis=(2, 3, 4)).sum(axis=1), shown)
    clips = RecordVideos("made", open_records(folder, "train", VIDEO))
    read, drawn = clips.clip(1), SyntheticVideos("train", 36).clip(1)
    assert (len(clips), read.name, read.length) == (2, "made/00001", drawn.length)
    np.testing.assert_array_equal(read.labels(9), drawn.labels(9))
    assert np.abs(read.image(9).astype(int) - drawn.image(9)).mean() < 12
