"""Which objects enter where, which masks are asked for, and what can be scored."""

import numpy as np
import pytest

from data_pipeline.eval_videos import find_eval_videos
from qmra_jax.errors import InputError
from tests.support.datasets import add_video, square
from tests.support.youtube_videos import NAMES, add_youtube_video, labels


def starts(video):
    return {index: start.ids for index, start in video.starts.items()}


def the_video(root, dataset, **options):
    found = find_eval_videos(root, dataset, **options)
    (video,) = found.videos
    return video, found


def test_davis_2016_starts_from_all_labels_as_one_object(tmp_path):
    add_video(tmp_path, "bear", [labels((1, 0), (2, 20))] * 3, split="val")
    video, found = the_video(tmp_path, "davis2016")
    assert starts(video) == {0: (1,)}
    np.testing.assert_array_equal(video.starts[0].read(), [labels((1, 0), (2, 20)) > 0])
    assert found.protocol == "davis2016"
    assert list(video.written.values()) == ["00000.png", "00001.png", "00002.png"]


def test_davis_2017_starts_from_each_object_of_the_first_mask(tmp_path):
    masks = [labels((1, 0), (2, 20)), labels((3, 0)), labels()]
    add_video(tmp_path, "bear", masks, split="val", year="2017")
    video, found = the_video(tmp_path, "davis2017")
    assert starts(video) == {0: (1, 2)}
    np.testing.assert_array_equal(video.starts[0].read()[1], labels((2, 20)) == 2)
    assert found.protocol == "davis2017"


def test_davis_with_first_masks_alone_is_not_scored_but_a_lost_mask_is_an_error(tmp_path):
    add_video(tmp_path, "bear", [labels((1, 0))] * 4, split="test-dev", year="2017")
    folder = tmp_path / "Annotations/480p/bear"
    (folder / "00002.png").unlink()
    with pytest.raises(InputError, match="expected one mask a frame"):
        find_eval_videos(tmp_path, "davis2017", split="test-dev")
    for name in ("00001", "00003"):
        (folder / f"{name}.png").unlink()
    video, found = the_video(tmp_path, "davis2017", split="test-dev")
    assert found.protocol is None
    assert "only first masks" in found.unscored
    assert len(video.written) == 4


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (labels((2, 0)), "shows no object 1: expected every object in the first frame"),
        (square(), r"shows no object 1: .*; 0/255 masks are davis2016's"),
    ],
)
def test_an_object_that_the_first_mask_lacks_is_named(tmp_path, first, says):
    add_video(tmp_path, "bear", [first] * 3, split="val", year="2017")
    with pytest.raises(InputError, match=says):
        find_eval_videos(tmp_path, "davis2017")


def test_youtube_vos_objects_enter_where_they_are_first_listed_and_listed_frames_are_wanted(
    tmp_path,
):
    # Frame 00005 is not listed, nothing is known of 00000; the mask of 00015 shows all objects.
    objects = {2: NAMES[2:4], 7: NAMES[3:]}
    masks = {"00010": labels((2, 0)), "00015": labels((2, 0), (7, 20))}
    add_youtube_video(tmp_path / "valid", "v", objects, masks)
    video, found = the_video(tmp_path, "youtube_vos")
    assert [path.stem for path in video.frames] == list(NAMES[2:])
    assert starts(video) == {0: (2,), 1: (7,)}
    np.testing.assert_array_equal(video.starts[1].read(), [labels((7, 20)) == 7])
    assert video.written == {0: "00010.png", 1: "00015.png", 2: "00020.png"}
    assert found.protocol is None
    assert "no true masks of 1 of its 3 listed frames" in found.unscored


def test_youtube_vos_runs_over_all_frames_and_asks_for_the_listed_ones(tmp_path):
    every = [f"{k:05d}" for k in range(11)]
    add_youtube_video(tmp_path / "valid", "v", {1: NAMES[:3]}, {"00000": labels((1, 0))})
    add_youtube_video(tmp_path / "valid_all_frames", "v", {}, {}, every)
    video, _ = the_video(tmp_path, "youtube_vos", split="valid_all_frames")
    assert [path.stem for path in video.frames] == every
    assert video.written == {0: "00000.png", 5: "00005.png", 10: "00010.png"}


def test_youtube_vos_with_a_truth_is_scored_and_a_late_showing_object_enters_late(tmp_path):
    masks = {name: labels((1, 0), (2, 20)) for name in NAMES} | {"00000": labels((1, 0))}
    add_youtube_video(tmp_path / "train", "v", {1: NAMES, 2: NAMES}, masks)
    video, found = the_video(tmp_path, "youtube_vos", split="train")
    assert starts(video) == {0: (1,), 1: (2,)}
    assert found.protocol == "youtube_vos"


def test_a_folder_takes_each_id_where_a_mask_first_shows_it(tmp_path):
    masks = [labels(), labels((3, 0)), labels((3, 0)), labels((1, 20))]
    add_video(tmp_path, "mine", masks, split=None)
    (tmp_path / "Annotations/480p/mine/00002.png").unlink()
    video, found = the_video(tmp_path, "folder")
    assert starts(video) == {1: (3,), 3: (1,)}
    assert list(video.written) == [0, 1, 2, 3]
    assert found.unscored == "sequence mine has masks of 3 of its 4 frames"


def test_a_folder_is_scored_where_every_frame_has_a_mask_as_davis_wants_it(tmp_path):
    add_video(tmp_path, "mine", [labels((1, 0))] * 3, split=None)
    assert find_eval_videos(tmp_path, "folder").protocol == "davis2017"
    add_video(tmp_path, "late", [labels((1, 0)), labels((2, 0)), labels()], split=None)
    found = find_eval_videos(tmp_path, "folder")
    assert found.protocol is None
    assert "objects of sequence late enter late" in found.unscored


def test_a_folder_of_0_and_255_is_told_where_to_turn(tmp_path):
    add_video(tmp_path, "mine", [square()] * 3, split=None)
    with pytest.raises(InputError, match="0/255 masks are for --dataset=davis2016 --split=all"):
        find_eval_videos(tmp_path, "folder")
    video, found = the_video(tmp_path, "davis2016", split="all")
    assert starts(video) == {0: (1,)}
    assert (found.protocol, found.split) == ("davis2016", None)
