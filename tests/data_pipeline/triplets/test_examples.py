"""Examples are numbered; datasets mix by their repeats and the schedules."""

from collections import Counter

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from data_pipeline.triplets.examples import open_examples
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, square

BATCH = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six pairs in `one`, four in `two`; a video of 30 frames in each of `d` and `e`."""
    root = tmp_path_factory.mktemp("data")
    for i in range(10):
        add_pair(root / ("one" if i < 6 else "two"), str(i))
    for folder, video in (("d", "bear"), ("e", "swan")):
        add_video(root / folder, video, [square()] * 30, "train")
    return root


@pytest.fixture
def data(root) -> ConfigDict:
    data = common.get_config().data
    data.update(root=str(root), static=("one", "two"), videos=("d:train",), crop=32, tps=0.0)
    data.video_share = ((0, 0.0),)
    return data


def opened(data, seed=0):
    return open_examples(data, seed=seed, global_batch=BATCH)


def names(data, numbers, seed=0):
    examples = opened(data, seed)
    return [examples(k)[0] for k in numbers]


def test_every_epoch_has_each_item_once_in_another_order(data):
    first, second = (names(data, range(10 * epoch, 10 * epoch + 10)) for epoch in (0, 1))
    assert len(set(first)) == len(set(second)) == 10
    assert set(first) == set(second)
    assert first != second


def test_a_share_of_examples_has_an_object_of_another_image(data):
    data.update(video_share=((0, 0.5),), distractors=0.25)
    found = names(data, range(400))
    beside = [name.split(" and ")[1] for name in found if " and " in name]
    assert 70 < len(beside) < 130
    assert len(set(beside)) == 10  # every pair, no video
    assert {name.split("/")[0] for name in found} == {"one", "two", "d"}
    data.distractors = 0.0
    assert [name.split(" and ")[0] for name in found] == names(data, range(400))


def test_a_look_alike_is_from_the_target_s_dataset_or_the_target_again(data):
    data.update(video_share=((0, 0.3),), distractors=1.0, lookalikes=1.0)
    named = [name.split(" and ") for name in names(data, range(200))]
    sets = {(name.split("/")[0], beside.split("/")[0]) for name, beside in named}
    assert sets == {("one", "one"), ("two", "two"), *((s, "itself") for s in ("one", "two", "d"))}
    share = np.mean([beside == "itself" for name, beside in named if name[0] != "d"])
    assert 0.15 < share < 0.45
    data.lookalikes = 0.5
    beside = [name.split(" and ")[1] for name in names(data, range(200)) if name[0] == "d"]
    assert 0.3 < np.mean([name == "itself" for name in beside]) < 0.7


def test_a_share_of_queries_shows_another_image(data):
    data.update(video_share=((0, 0.5),), negatives=0.25, distractors=1.0)
    examples = opened(data)
    made = [examples(k) for k in range(200)]
    negative = [", then " in name for name, _ in made]
    assert 30 < sum(negative) < 70
    assert not any(", then " in name and " and " in name for name, _ in made)
    for is_negative, (_, triplet) in zip(negative, made, strict=True):
        assert triplet.masks.any(axis=(1, 2)).tolist() == [True, True, not is_negative]


def test_held_out_videos_are_never_drawn(data, root):
    for name in ("bear", "wolf"):
        add_video(root / "f", name, [square()] * 3, "train")
    data.update(static=(), video_share=((0, 1.0),), videos=("f:train", "e:train", "synthetic"))
    data.held_out = ("f/bear",)
    assert [len(dataset) for dataset in opened(data).videos.datasets] == [1, 1, 10_000]
    data.videos = ("f:train", "e:train")
    assert {name.rsplit("/", 2)[0] for name in names(data, range(12))} == {"f/wolf", "e/swan"}


def test_an_item_comes_as_often_in_an_epoch_as_its_repeat_says(data):
    for static, epoch, epochs, one, two in (
        (("one", "two@3"), 6 + 3 * 4, 1, 1, 3),
        (("one@0.5", "two@1.25"), 3 + 5, 4, 2, 5),
    ):
        data.static = static
        counts = Counter(names(data, range(epoch * epochs)))
        assert [counts[f"one/{i}.jpg#1"] for i in range(6)] == [one] * 6
        assert [counts[f"two/{i}.jpg#1"] for i in range(6, 10)] == [two] * 4


def test_the_video_share_follows_its_schedule(data):
    data.video_share = ((0, 0.0), (10, 1.0), (20, 0.5))
    examples = opened(data)

    def share(steps):
        found = [examples(step * BATCH + i)[0] for step in steps for i in range(BATCH)]
        return np.mean([name.startswith("d/") for name in found])

    assert share(range(10)) == 0
    assert share(range(10, 20)) == 1
    assert 0.35 < share(range(20, 60)) < 0.65


def largest_gap(data, steps):
    found = names(data, [step * BATCH + i for step in steps for i in range(BATCH)])
    frames = [list(map(int, name.rsplit(" ", 1)[1].split(","))) for name in found]
    return np.diff(frames).max()


def test_the_largest_gap_follows_its_schedule(data):
    data.update(static=(), video_share=((0, 1.0),), max_gap=((0, 1), (10, 3), (20, 8)))
    assert [largest_gap(data, range(s, s + 10)) for s in (0, 10, 20)] == [1, 3, 8]


def test_a_video_without_a_triplet_is_reported_once_and_replaced(tmp_path, caplog):
    empty = np.zeros_like(square())
    for folder, labels in (("d", [square()] * 6), ("e", [square(), empty, empty, square()])):
        add_video(tmp_path / folder, "walk", labels, "train")
    data = common.get_config().data
    data.update(root=str(tmp_path), videos=("d:train", "e:train"), crop=32)
    with caplog.at_level("WARNING"):
        drawn = names(data, range(12))
    assert all(name.startswith("d/walk/") for name in drawn)
    assert drawn == names(data, range(12))
    (warning,) = caplog.messages
    assert "video e/walk" in warning
    data.videos = ("e:train",)
    with pytest.raises(InputError, match="50 videos in a row"):
        names(data, [0])


def test_the_default_config_needs_no_data_folder(monkeypatch):
    monkeypatch.delenv("QMRA_DATA", raising=False)
    data = common.get_config().data
    data.crop = 32
    name, triplet = opened(data)(5)
    assert name.startswith("synthetic/train/")
    assert triplet.images.shape == (3, 32, 32, 3)


def test_videos_that_are_never_drawn_are_not_opened(data):
    data.videos = ("nowhere:train",)
    assert opened(data).videos is None


VIDEOS_ALONE = {"static": (), "video_share": ((0, 1.0),)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 100}, r"data\.crop=100"),
        ({"distractors": 1.5}, r"data\.distractors=1\.5"),
        ({"lookalikes": -0.1}, r"data\.lookalikes=-0\.1"),
        ({"negatives": float("nan")}, r"data\.negatives=nan"),
        ({"distractors": 0.5} | VIDEOS_ALONE, r"data\.distractors=0\.5 .*data\.static"),
        ({"negatives": 0.5} | VIDEOS_ALONE, r"data\.negatives=0\.5 .*data\.static"),
        ({"held_out": "d/bear"}, r"data\.held_out='d/bear'"),
        ({"held_out": ("d/bears",)}, r"data\.held_out names 'd/bears'"),
        ({"held_out": ("d/bear",)}, r"'d:train': data\.held_out"),
        ({"max_gap": 5}, r"data\.max_gap=5"),
        ({"max_gap": ((0, 2), (5, 0))}, r"data\.max_gap="),
        ({"video_share": ((0, 1.5),)}, r"data\.video_share="),
        ({"videos": ()}, r"data\.video_share=.*data\.videos"),
        ({"static": ()}, r"data\.video_share=.*data\.static"),
        ({"video_share": ((0, 1.0),)}, r"data\.static names 'one', .*data\.video_share"),
        ({"static": ("nowhere",)}, r"source 'nowhere'"),
        ({"static": ("one", "one")}, r"entry 'one'"),
        ({"static": ("one", "two@0.1")}, r"'two@0\.1': .* 4 items.*0\.2"),
        ({"videos": ("d",)}, r"2016/train: .*d:train:2016"),
        ({"videos": ("d:val",)}, r"split 2016/val .*val\.txt"),
        ({"videos": ("d:",)}, r"entry 'd:'"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_one_line(data, change, message):
    data.video_share = ((0, 0.5),)
    with data.ignore_type():
        for name, value in change.items():
            data[name] = value
    with pytest.raises(InputError, match=f"^.*{message}.*$"):
        opened(data)
