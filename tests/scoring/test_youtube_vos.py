"""YouTube-VOS: objects count from their first listed frame on, seen and unseen apart."""

import json

import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.masks import write_labels
from qmra_jax.scoring.score import score_folder
from qmra_jax.scoring.tables import format_comparison, format_table

FRAMES = ("00000", "00005", "00010", "00015", "00020")
LATE = {"1": ("cat", FRAMES), "2": ("penguin", FRAMES[2:]), "3": ("zebra", FRAMES[4:])}


def labels(*objects):
    """A 24x40 map with a 10x10 square for each (label, x)."""
    made = np.zeros((24, 40), np.uint8)
    for label, x in objects:
        made[5:15, x : x + 10] = label
    return made


def late_masks():
    """Object 1 always; 2 from the third frame; 3 in the last, where nothing of it is scored."""
    one, two = labels((1, 0)), labels((1, 0), (2, 12))
    return [one, one, two, two, labels((1, 0), (2, 12), (3, 28))]


def write(root, objects, masks, *, predictions):
    """A split of one video "v", whose predictions equal the true masks."""
    (root / "JPEGImages" / "v").mkdir(parents=True)
    for frame, labels in zip(FRAMES, masks, strict=True):
        (root / "JPEGImages" / "v" / f"{frame}.jpg").touch()  # scoring looks at names alone
        write_labels(root / "Annotations" / "v" / f"{frame}.png", labels)
        write_labels(predictions / "Annotations" / "v" / f"{frame}.png", labels)
    entries = {k: {"category": c, "frames": list(f)} for k, (c, f) in objects.items()}
    (root / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": entries}}}))


@pytest.fixture
def late(tmp_path):
    """One perfectly predicted video: (root, predictions)."""
    root, predictions = tmp_path / "YouTubeVOS", tmp_path / "predictions"
    write(root / "train", LATE, late_masks(), predictions=predictions)
    return root, predictions


def spoil(predictions, frame, made):
    write_labels(predictions / "Annotations" / "v" / f"{frame}.png", made)


def score(late, split="train", **settings):
    root, predictions = late
    return score_folder(
        root, predictions, protocol="youtube_vos", split=split, progress=False, **settings
    )


def test_an_object_counts_after_its_first_listed_frame_and_not_in_it(late):
    spoil(late[1], "00000", labels())
    spoil(late[1], "00005", labels((1, 0), (2, 12)))  # before object 2 is listed
    spoil(late[1], "00010", labels((1, 0), (2, 30)))  # its first frame
    scores = score(late, frames=True)
    assert scores["overall"] == 1
    assert scores["frames"]["v"]["names"] == list(FRAMES[1:])
    assert scores["frames"]["v"]["objects"]["2"]["J"] == [None, None, 1, 1]
    spoil(late[1], "00015", labels((1, 0)))  # now it is missed where it counts
    assert score(late)["sequences"]["v"]["objects"]["2"]["J"]["mean"] == 0.5


def test_seen_and_unseen_are_averaged_apart_and_overall_is_their_mean(late):
    spoil(late[1], "00015", labels((1, 0)))
    scores = score(late)
    objects = scores["sequences"]["v"]["objects"]
    assert [o["seen"] for o in objects.values()] == [True, True]  # cat and penguin are in train
    scores = score(late, unseen=["penguin"])
    assert [o["seen"] for o in scores["sequences"]["v"]["objects"].values()] == [True, False]
    assert (scores["seen"]["J"]["mean"], scores["unseen"]["J"]["mean"]) == (1, 0.5)
    four = [scores[group][m]["mean"] for group in ("seen", "unseen") for m in "JF"]
    assert scores["overall"] == pytest.approx(np.mean(four))
    assert scores["seen"]["objects"] == scores["unseen"]["objects"] == 1


def test_a_category_that_the_official_training_set_lacks_is_unseen(tmp_path):
    predictions = tmp_path / "predictions"
    objects = {"1": ("rhino", FRAMES)}
    write(tmp_path / "held", objects, [labels((1, 0))] * 5, predictions=predictions)
    scores = score((tmp_path / "held", predictions), split=None)
    assert scores["seen"] is None
    assert scores["unseen"]["objects"] == 1
    assert "no objects of seen categories" in format_table(scores)
    assert " – |" in format_comparison({"a": scores, "b": scores})


def test_an_object_with_nothing_to_score_is_named(late):
    scores = score(late)
    assert scores["unscored"] == ["v_3"]
    assert scores["objects"] == 2
    assert "v_3" in format_table(scores)


def test_a_frame_without_a_true_mask_is_not_scored(late):
    (late[0] / "train" / "Annotations" / "v" / "00015.png").unlink()
    spoil(late[1], "00015", labels((2, 0)))
    with pytest.raises(InputError, match="00015"):
        score(late)  # as `train` must be whole
    root, predictions = late
    assert score((root / "train", predictions), split=None)["overall"] == 1


def test_what_cannot_be_scored_is_refused_by_name(late):
    root, predictions = late
    spoil(predictions, "00015", labels((1, 0), (7, 12)))
    with pytest.raises(InputError, match=r"00015\.png .*label 7.*video v .*1, 2, 3"):
        score(late)
    (predictions / "Annotations" / "v" / "00015.png").unlink()
    with pytest.raises(InputError, match=r"1 of 4 .*00015\.png"):
        score(late)
    with pytest.raises(InputError, match="split 'train'"):
        score((root / "train", predictions))
    with pytest.raises(InputError, match=r"expected meta\.json"):
        score(late, split=None)
    with pytest.raises(InputError, match="video w"):
        score(late, sequences=["w"])


def test_a_folder_without_ground_truth_after_the_first_frames_is_refused(tmp_path):
    predictions = tmp_path / "predictions"
    write(tmp_path / "valid", {"1": LATE["1"]}, late_masks(), predictions=predictions)
    for frame in FRAMES[1:]:
        (tmp_path / "valid" / "Annotations" / "v" / f"{frame}.png").unlink()
    with pytest.raises(InputError, match="video v:"):
        score((tmp_path, predictions), split="valid")


def test_objects_without_a_category_need_unseen(late):
    meta = late[0] / "train" / "meta.json"
    meta.write_text(meta.read_text().replace('"penguin"', '""'))
    with pytest.raises(InputError, match=r"object 2 of video v .*--unseen"):
        score(late)
    assert score(late, unseen=[])["unseen"] is None
