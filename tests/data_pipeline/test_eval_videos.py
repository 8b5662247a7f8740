"""Which objects enter where, which masks are written, and what can be scored."""

import numpy as np
import pytest

from data_pipeline.eval_videos import find_eval_videos
from qmra_jax.errors import InputError
from tests.support.datasets import STAMPS, add_video, add_youtube_video, labels, names, square


def starts(video):
    return {index: start.ids for index, start in video.starts.items()}


def the_video(root, dataset, **options):
    found = find_eval_videos(root, dataset, **options)
    (video,) = found.videos
    return video, found


def test_davis_2016_starts_from_all_labels_as_one_object(tmp_path):
    add_video(tmp_path, "bear", [labels((1, 0), (2, 20))] * 3, "val")
    video, found = the_video(tmp_path, "davis2016")
    assert starts(video) == {0: (1,)}
    np.testing.assert_array_equal(video.starts[0].read(), [labels((1, 0), (2, 20)) > 0])
    assert found.protocol == "davis2016"
    assert list(video.written.values()) == ["00000.png", "00001.png", "00002.png"]


def test_davis_2017_starts_from_each_object_of_the_first_mask(tmp_path):
    masks = [labels((1, 0), (2, 20)), labels((3, 0)), labels()]
    add_video(tmp_path, "bear", masks, "val", "2017")
    video, found = the_video(tmp_path, "davis2017")
    assert starts(video) == {0: (1, 2)}
    np.testing.assert_array_equal(video.starts[0].read()[1], labels((2, 20)) == 2)
    assert found.protocol == "davis2017"


def test_davis_with_first_masks_alone_is_not_scored_but_a_lost_mask_is_an_error(tmp_path):
    add_video(tmp_path, "bear", [labels((1, 0))] * 4, "test-dev", "2017")
    folder = tmp_path / "Annotations/480p/bear"
    (folder / "00002.png").unlink()
    with pytest.raises(InputError, match=r"sequence bear .*: 00002"):
        find_eval_videos(tmp_path, "davis2017", split="test-dev")
    for name in ("00001", "00003"):
        (folder / f"{name}.png").unlink()
    video, found = the_video(tmp_path, "davis2017", split="test-dev")
    assert found.protocol is None
    assert "only first masks" in found.unscored
    assert len(video.written) == 4


@pytest.mark.parametrize(("first", "hint"), [(labels((2, 0)), ""), (square(), "davis2016")])
def test_an_object_missing_from_the_first_mask_is_named(tmp_path, first, hint):
    add_video(tmp_path, "bear", [first] * 3, "val", "2017")
    with pytest.raises(InputError, match=rf"bear/00000\.png shows no object 1: .*{hint}"):
        find_eval_videos(tmp_path, "davis2017")


def test_youtube_vos_objects_enter_at_their_first_listed_frame_and_listed_frames_are_written(
    tmp_path,
):
    # Frame 00005 is not listed, nothing is known of 00000; the mask of 00015 shows all objects.
    objects = {2: STAMPS[2:4], 7: STAMPS[3:]}
    masks = {"00010": labels((2, 0)), "00015": labels((2, 0), (7, 20))}
    add_youtube_video(tmp_path / "valid", "v", objects, masks)
    video, found = the_video(tmp_path, "youtube_vos")
    assert [path.stem for path in video.frames] == list(STAMPS[2:])
    assert starts(video) == {0: (2,), 1: (7,)}
    np.testing.assert_array_equal(video.starts[1].read(), [labels((7, 20)) == 7])
    assert video.written == {0: "00010.png", 1: "00015.png", 2: "00020.png"}
    assert found.protocol is None
    assert "1 of its 3 listed" in found.unscored


def test_youtube_vos_runs_all_frames_and_writes_the_listed_ones(tmp_path):
    add_youtube_video(tmp_path / "valid", "v", {1: STAMPS[:3]}, {"00000": labels((1, 0))})
    add_youtube_video(tmp_path / "valid_all_frames", "v", {}, {}, names(11))
    video, _ = the_video(tmp_path, "youtube_vos", split="valid_all_frames")
    assert [path.stem for path in video.frames] == names(11)
    assert video.written == {0: "00000.png", 5: "00005.png", 10: "00010.png"}


def test_youtube_vos_with_ground_truth_is_scored_and_a_late_object_enters_late(tmp_path):
    masks = {name: labels((1, 0), (2, 20)) for name in STAMPS} | {"00000": labels((1, 0))}
    add_youtube_video(tmp_path / "train", "v", {1: STAMPS, 2: STAMPS}, masks)
    video, found = the_video(tmp_path, "youtube_vos", split="train")
    assert starts(video) == {0: (1,), 1: (2,)}
    assert found.protocol == "youtube_vos"


def test_in_a_folder_an_id_enters_where_a_mask_first_shows_it(tmp_path):
    masks = {"00000": labels(), "00001": labels((3, 0)), "00003": labels((1, 20))}
    add_video(tmp_path, "mine", masks, frames=names(4))
    video, found = the_video(tmp_path, "folder")
    assert starts(video) == {1: (3,), 3: (1,)}
    assert list(video.written) == [0, 1, 2, 3]
    assert "mine has masks of 3 of its 4 frames" in found.unscored


def test_a_folder_is_scored_if_its_masks_are_like_davis(tmp_path):
    add_video(tmp_path, "mine", [labels((1, 0))] * 3)
    assert find_eval_videos(tmp_path, "folder").protocol == "davis2017"
    add_video(tmp_path, "late", [labels((1, 0)), labels((2, 0)), labels()])
    found = find_eval_videos(tmp_path, "folder")
    assert found.protocol is None
    assert "sequence late" in found.unscored


def test_a_folder_of_0_and_255_needs_davis2016(tmp_path):
    add_video(tmp_path, "mine", [square()] * 3)
    with pytest.raises(InputError, match="--dataset=davis2016 --split=all"):
        find_eval_videos(tmp_path, "folder")
    video, found = the_video(tmp_path, "davis2016", split="all")
    assert starts(video) == {0: (1,)}
    assert (found.protocol, found.split) == ("davis2016", None)
