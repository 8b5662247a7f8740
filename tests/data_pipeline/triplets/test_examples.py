"""Every example has a number: datasets mix as their repeats and the schedules say."""

from collections import Counter

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from data_pipeline.triplets.examples import Mixture, open_examples
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
        add_video(root / folder, video, [square()] * 30)
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


def test_an_epoch_shows_every_item_once_in_another_order_than_the_next(data):
    first, second = (names(data, range(10 * epoch, 10 * epoch + 10)) for epoch in (0, 1))
    assert len(set(first)) == len(set(second)) == 10
    assert set(first) == set(second)
    assert first != second


def test_a_share_of_examples_has_another_image_s_object_whatever_the_rest_is(data):
    data.update(video_share=((0, 0.5),), distractors=0.25)
    found = names(data, range(400))
    beside = [name.split(" and ")[1] for name in found if " and " in name]
    assert 70 < len(beside) < 130
    assert len(set(beside)) == 10  # every pair, no video
    assert {name.split("/")[0] for name in found} == {"one", "two", "d"}
    data.distractors = 0.0
    assert [name.split(" and ")[0] for name in found] == names(data, range(400))


def test_a_look_alike_is_of_the_target_s_set_or_the_target_again(data):
    data.update(video_share=((0, 0.3),), distractors=1.0, lookalikes=1.0)
    named = [name.split(" and ") for name in names(data, range(200))]
    sets = {(name.split("/")[0], beside.split("/")[0]) for name, beside in named}
    assert sets == {("one", "one"), ("two", "two"), *((s, "itself") for s in ("one", "two", "d"))}
    share = np.mean([beside == "itself" for name, beside in named if name[0] != "d"])
    assert 0.15 < share < 0.45
    data.lookalikes = 0.5
    beside = [name.split(" and ")[1] for name in names(data, range(200)) if name[0] == "d"]
    assert 0.3 < np.mean([name == "itself" for name in beside]) < 0.7


def test_a_share_of_queries_is_another_image_without_the_target(data):
    data.update(video_share=((0, 0.5),), negatives=0.25, distractors=1.0)
    examples = opened(data)
    made = [examples(k) for k in range(200)]
    negative = [", then " in name for name, _ in made]
    assert 30 < sum(negative) < 70
    assert not any(", then " in name and " and " in name for name, _ in made)
    for is_negative, (_, triplet) in zip(negative, made, strict=True):
        assert triplet.masks.any(axis=(1, 2)).tolist() == [True, True, not is_negative]


def test_videos_that_are_held_out_are_never_drawn(data, root):
    for name in ("bear", "wolf"):
        add_video(root / "f", name, [square()] * 3)
    data.update(static=(), video_share=((0, 1.0),), videos=("f:train", "e:train", "synthetic"))
    data.held_out = ("f/bear",)
    assert [len(dataset) for dataset in opened(data).videos.datasets] == [1, 1, 10_000]
    data.videos = ("f:train", "e:train")
    assert {name.rsplit("/", 2)[0] for name in names(data, range(12))} == {"f/wolf", "e/swan"}


def test_repeats_are_how_often_an_item_comes_in_an_epoch(data):
    for static, epoch, epochs, one, two in (
        (("one", "two@3"), 6 + 3 * 4, 1, 1, 3),
        (("one@0.5", "two@1.25"), 3 + 5, 4, 2, 5),
    ):
        data.static = static
        counts = Counter(names(data, range(epoch * epochs)))
        assert [counts[f"one/{i}.jpg#1"] for i in range(6)] == [one] * 6
        assert [counts[f"two/{i}.jpg#1"] for i in range(6, 10)] == [two] * 4


def test_places_go_through_the_items_in_turn_from_epoch_to_epoch():
    mixture = Mixture(("abc", "xy"), (2, 4))
    items = [[mixture.item(epoch, place) for place in range(len(mixture))] for epoch in (0, 1, 2)]
    assert [[item for dataset, item in row if dataset == "abc"] for row in items] == [
        [0, 1],
        [2, 0],
        [1, 2],
    ]
    assert [[item for dataset, item in row if dataset == "xy"] for row in items] == [[0, 1] * 2] * 3
    with pytest.raises(IndexError):
        mixture.item(0, 6)


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


@pytest.mark.parametrize("form", [3, (3,), [3], [[0, 3]]], ids=str)
def test_one_gap_for_all_steps_may_be_a_number_as_it_was_in_older_configs(form, data):
    data.update(static=(), video_share=((0, 1.0),), max_gap=((0, 3),))
    examples = opened(data)
    plain = ConfigDict(data.to_dict() | {"max_gap": 1}).unlock()
    with plain.ignore_type():
        plain.max_gap = form
    assert opened(plain).max_gap == examples.max_gap == ((0, 3),)


def test_videos_are_equally_likely_and_raw_as_repeated(data):
    data.update(static=(), video_share=((0, 1.0),), videos=("d:train", "e:train@2"))
    counts = Counter(name.split("/")[0] for name in names(data, range(30)))
    assert counts == {"d": 10, "e": 20}


def test_a_video_without_a_triplet_is_told_once_and_another_drawn(tmp_path, caplog):
    empty = np.zeros_like(square())
    for folder, labels in (("d", [square()] * 6), ("e", [square(), empty, empty, square()])):
        add_video(tmp_path / folder, "walk", labels)
    data = common.get_config().data
    data.update(root=str(tmp_path), videos=("d:train", "e:train"), crop=32)
    with caplog.at_level("WARNING"):
        drawn = names(data, range(12))
    assert all(name.startswith("d/walk/") for name in drawn)
    assert drawn == names(data, range(12))
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "video e/walk: no three frames show the same object: another video is drawn in its place"
    ]
    data.videos = ("e:train",)
    with pytest.raises(InputError, match="videos in a row have no three frames with one object"):
        names(data, [0])


def test_the_default_config_trains_on_synthetic_videos_without_any_folder(monkeypatch):
    monkeypatch.delenv("QMRA_DATA", raising=False)
    data = common.get_config().data
    data.crop = 32
    name, triplet = opened(data)(5)
    assert name.startswith("synthetic/train/")
    assert triplet.images.shape == (3, 32, 32, 3)


def test_videos_that_are_never_drawn_are_not_opened(data):
    data.videos = ("nowhere:train",)
    assert opened(data).videos is None


STILLS_ASKED = {"static": (), "video_share": ((0, 1.0),)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 100}, r"data\.crop=100"),
        ({"distractors": 1.5}, r"data\.distractors=1\.5"),
        ({"lookalikes": -0.1}, r"data\.lookalikes=-0\.1"),
        ({"negatives": float("nan")}, r"data\.negatives=nan"),
        ({"distractors": 0.5} | STILLS_ASKED, r"data\.distractors=0\.5 .* data\.static is empty"),
        ({"negatives": 0.5} | STILLS_ASKED, r"data\.negatives=0\.5 .* data\.static is empty"),
        ({"held_out": "d/bear"}, r"data\.held_out='d/bear': expected a tuple"),
        ({"held_out": ("d/bears",)}, r"data\.held_out names 'd/bears'"),
        ({"held_out": ("d/bear",)}, r"'d:train': data\.held_out names all"),
        ({"max_gap": 0}, r"data\.max_gap="),
        ({"max_gap": ((0, 2), (5, 0))}, r"data\.max_gap="),
        ({"max_gap": ((1, 2),)}, r"data\.max_gap=.*the first from step 0"),
        ({"max_gap": ((0, 2.5),)}, r"data\.max_gap=.*expected pairs \(from step, frames"),
        ({"max_gap": ()}, r"data\.max_gap="),
        ({"video_share": ((5, 0.1),)}, r"data\.video_share="),
        ({"video_share": ((0, 0.1), (0, 0.2))}, r"data\.video_share="),
        ({"video_share": (0, 0.1)}, r"data\.video_share=.*expected pairs"),
        ({"video_share": ((0, 1.5),)}, r"data\.video_share=.*from 0 to 1"),
        ({"videos": ()}, r"data\.video_share=.* but data\.videos is empty"),
        ({"static": ()}, r"data\.video_share=.* but data\.static is empty"),
        ({"video_share": ((0, 1.0),)}, r"data\.static names 'one', but .* is videos alone"),
        ({"static": ("nowhere",)}, r"source 'nowhere': no folder .*nowhere"),
        ({"static": ("one", "one")}, r"'one': it is there twice"),
        ({"static": ("one", "two@0.1")}, r"'two@0\.1': of 4 items .* none: .*0\.2"),
        ({"videos": ("d",)}, r"has the splits 2016/train: .* such as d:train:2016"),
        ({"videos": ("d:val",)}, r"split 2016/val of .*d: expected .*val\.txt"),
        ({"videos": ("d:",)}, r"'d:': expected FOLDER, FOLDER:SPLIT"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_one_line(data, change, message):
    data.video_share = ((0, 0.5),)
    with data.ignore_type():
        for name, value in change.items():
            data[name] = value
    with pytest.raises(InputError, match=f"^.*{message}.*$"):
        opened(data)
