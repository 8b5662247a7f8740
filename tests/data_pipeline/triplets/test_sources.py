"""An item of any dataset becomes a triplet of the right target; bad items are named."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.triplets.sources import NoTriplet, static_example, video_example
from data_pipeline.triplets.triplets import Augmentation
from qmra_jax.errors import InputError
from tests.support.datasets import square

PLAIN = Augmentation(crop=32, rotation=0, scale=(1, 1), shift=0, flip=False, tps=0, colour_jitter=0)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A dataset of one pair."""

    labels: np.ndarray
    size: tuple[int, int] = (32, 40)

    def __len__(self):
        return 1

    def pair(self, item):
        return "x/a.jpg", np.full((*self.size, 3), 90, np.uint8), self.labels


class Video:
    """A dataset of one video, which is also that video: frame k has brightness 10 k."""

    name = "x/walk"

    def __init__(self, *masks):
        self.masks = masks
        self.length = len(masks)
        self.images_read, self.masks_read = [], []

    def __len__(self):
        return 1

    def clip(self, item):
        return self

    def image(self, k):
        self.images_read.append(k)
        return np.full((32, 40, 3), 10 * k % 256, np.uint8)

    def labels(self, k):
        self.masks_read.append(k)
        return self.masks[k]


def still(pairs, seed=0):
    return static_example(pairs, 0, np.random.default_rng(seed), PLAIN)


def moving(clips, seed=0, max_gap=5):
    return video_example(clips, 0, np.random.default_rng(seed), PLAIN, max_gap)


def frames_of(name):
    return tuple(map(int, name.rsplit(" ", 1)[1].split(",")))


HERE, GONE = square(1), square(0)


def test_every_instance_of_a_pair_is_drawn():
    left, right = square(1, left=8), square(2, left=20)
    drawn = set()
    for seed in range(20):
        name, triplet = still(Pair(left + right), seed)
        drawn.add(name)
        assert triplet.boxes[:, 2:].tolist() == [[12, 12]] * 3
        assert (triplet.images[triplet.masks == 1] == 90).all()
    assert drawn == {"x/a.jpg#1", "x/a.jpg#2"}


def test_video_frames_are_ordered_with_gaps_up_to_the_largest():
    gaps = set()
    for seed in range(60):
        name, triplet = moving(Video(*[HERE] * 12), seed, max_gap=3)
        assert name.startswith("x/walk/object 1/frames ")
        frames = frames_of(name)
        assert triplet.images[:, 16, 16, 0].tolist() == [10 * k for k in frames]
        gaps |= set(np.diff(frames).tolist())
    assert gaps == {1, 2, 3}


def test_three_frames_are_decoded_and_no_more():
    video = Video(*[HERE] * 40)
    frames = frames_of(moving(video)[0])
    assert tuple(video.images_read) == tuple(video.masks_read) == frames


def test_the_target_of_a_video_is_visible_in_all_three_frames():
    drawn = {
        frames_of(moving(Video(HERE, GONE, HERE, HERE, HERE, GONE, GONE, GONE), seed)[0])
        for seed in range(20)
    }
    assert drawn == {(0, 2, 3), (0, 2, 4), (0, 3, 4), (2, 3, 4)}


def test_each_object_is_drawn_and_void_never():
    labels = square(1, left=2) + square(2, left=24)
    labels[0:6] = 255
    drawn = {moving(Video(*[labels] * 3), seed)[0] for seed in range(20)}
    assert drawn == {f"x/walk/object {target}/frames 0,1,2" for target in (1, 2)}


def test_three_rare_frames_are_found_by_searching():
    masks = [GONE] * 200
    masks[150] = masks[153] = masks[158] = HERE
    assert frames_of(moving(Video(*masks))[0]) == (150, 153, 158)


def test_a_tiny_object_is_a_target_only_without_others():
    speck = np.zeros((100, 100), np.uint8)
    speck[5, 5] = 7

    class Big(Video):
        def image(self, k):
            return np.zeros((100, 100, 3), np.uint8)

    assert moving(Big(*[speck] * 3))[0] == "x/walk/object 7/frames 0,1,2"
    both = speck.copy()
    both[40:60, 40:60] = 3
    names = {moving(Big(*[both] * 3), seed)[0] for seed in range(10)}
    assert names == {"x/walk/object 3/frames 0,1,2"}


def test_an_object_too_rare_for_the_gap_is_taken_from_its_closest_frames():
    far = [HERE, GONE, GONE, HERE, GONE, GONE, HERE, GONE, GONE, GONE, HERE]
    for gap in (1, 2, 3):
        assert frames_of(moving(Video(*far), max_gap=gap)[0]) == (0, 3, 6)


ODD = square(1, size=(50, 30))


@pytest.mark.parametrize(
    ("make", "source", "kind", "message"),
    [
        (still, Pair(GONE), InputError, r"x/a\.jpg: its mask is empty"),
        (still, Pair(ODD), InputError, r"x/a\.jpg: its mask is 50x30 but its image is 40x32"),
        (moving, Video(*[GONE] * 4), NoTriplet, "video x/walk: no three frames"),
        (moving, Video(HERE, HERE), NoTriplet, "video x/walk: 2 frames"),
        (moving, Video(HERE, ODD, HERE), InputError, "x/walk: mask 1 is 50x30 but mask 0 is 40x32"),
        (moving, Video(ODD, ODD, ODD), InputError, "x/walk: mask 0 is 50x30 but frame 0 is 40x32"),
    ],
)
def test_an_unusable_item_is_named(make, source, kind, message):
    with pytest.raises(kind, match=message):
        make(source)
