"""Evaluation during training: how videos are shared, and which checkpoints were best."""

import json
import threading

import numpy as np
import pytest
from etils import epath

from qmra_jax.boxes import mask_to_box
from qmra_jax.evaluation import segmenter
from qmra_jax.inference.propagator import FrameResult
from qmra_jax.scoring import protocols
from qmra_jax.training import distributed
from qmra_jax.training.validation import Abandoned, open_validation
from tests.support.tiny_config import get_config


class StillBox:
    """Replaces the propagator: predicts the filled first box in every frame."""

    def __init__(self, *args, **kwargs):
        pass

    def start(self, frame, masks, ids):
        self.labels = np.zeros(frame.shape[:2], np.uint8)
        for label, (x, y, width, height) in zip(ids, mask_to_box(masks), strict=True):
            self.labels[y : y + height, x : x + width] = label
        return self.step(frame)

    def step(self, frame):
        return FrameResult(self.labels, np.zeros((1, 4), np.int32), None)


@pytest.fixture
def validation(tiny_davis, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenter, "Propagator", StillBox)
    config = get_config()
    config.steps = 7
    config.data.root = str(tiny_davis)
    config.eval.every = 3
    config.eval.videos = ".:val"
    return open_validation(config, epath.Path(tmp_path))


def test_processes_share_the_videos_and_get_the_same_scores(validation, monkeypatch):
    whole = validation(3, None, None)
    scores = json.loads((validation.folder / "0000003.json").read_text())
    tables = []
    for index in range(2):
        monkeypatch.setattr(distributed, "place", lambda index=index: (index, 2))
        monkeypatch.setattr(distributed, "gather", lambda x: tables.append(x) or x[None])
        validation(4, None, None)
    assert [np.count_nonzero(table[:, 2]) for table in tables] == [1, 1]
    monkeypatch.setattr(distributed, "gather", lambda x: np.stack(tables))
    assert validation(5, None, None) == whole
    assert json.loads((validation.folder / "0000005.json").read_text()) == scores


def test_local_devices_work_at_the_same_time(validation, monkeypatch):
    both = threading.Barrier(2, timeout=60)
    score = protocols.score_sequence
    monkeypatch.setattr(
        protocols, "score_sequence", lambda *a, **options: (both.wait(), score(*a, **options))[1]
    )
    assert validation(3, None, None).keys() == {"J", "F", "J&F"}


def test_best_steps_have_the_highest_metric_and_ties_go_to_the_earlier(validation):
    validation.folder.mkdir()
    for step, value in ((3, 0.5), (6, 0.7), (9, 0.7), (12, float("nan"))):
        (validation.folder / f"{step:07d}.json").write_text(json.dumps({"J&F": value}))
    for keep, best in ((1, [6]), (3, [6, 9, 3]), (0, [])):
        validation.config.keep_best = keep
        assert validation.best(range(1, 13)) == best
    validation.config.keep_best = 1
    assert validation.best([3, 9, 10]) == [9]  # the checkpoint of step 6 was deleted


def test_evaluation_is_due_periodically_and_at_the_end(validation):
    assert [step for step in range(8) if validation.is_due(step)] == [3, 6, 7]


def test_request_to_stop_ends_it_without_scores(validation):
    frames = iter([False, False, True])
    with pytest.raises(Abandoned):
        validation(3, None, None, stop=lambda: next(frames))
    assert validation.is_missing(3)
    validation(3, None, None)
    assert not validation.is_missing(3)


def test_without_evaluation_no_videos_are_needed(tmp_path):
    config = get_config()
    config.eval.videos = "nowhere"
    validation = open_validation(config, epath.Path(tmp_path))
    assert not any(validation.is_due(step) for step in range(11))
