"""Evaluation while training: its share of the videos, and which checkpoints were best."""

import json
import threading

import numpy as np
import pytest
from etils import epath

from qmra_jax.boxes import mask_to_box
from qmra_jax.evaluation import segmenter
from qmra_jax.inference.propagator import FrameResult
from qmra_jax.scoring import protocols
from qmra_jax.training import distributed, validation
from tests.support.tiny_config import get_config


class Still:
    """Stands for the propagator: the first box, filled, in every frame."""

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
def opened(tiny_davis, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenter, "Propagator", Still)
    config = get_config()
    config.data.root = str(tiny_davis)
    config.eval.every = 3
    config.eval.videos = ".:val"
    return validation.open_validation(config, epath.Path(tmp_path))


def test_processes_share_the_sequences_and_get_one_result(opened, monkeypatch):
    whole = opened(3, None, None)
    scores = json.loads((opened.folder / "0000003.json").read_text())
    tables = []
    for index in range(2):
        monkeypatch.setattr(distributed, "place", lambda index=index: (index, 2))
        monkeypatch.setattr(distributed, "gather", lambda x: tables.append(x) or x[None])
        opened(4, None, None)
    assert [np.count_nonzero(table[:, 2]) for table in tables] == [1, 1]
    monkeypatch.setattr(distributed, "gather", lambda x: np.stack(tables))
    assert opened(5, None, None) == whole
    assert json.loads((opened.folder / "0000005.json").read_text()) == scores


def test_all_local_devices_share_the_sequences(opened, monkeypatch):
    both = threading.Barrier(2, timeout=60)
    score = protocols.score_sequence
    monkeypatch.setattr(
        protocols, "score_sequence", lambda *a, **options: (both.wait(), score(*a, **options))[1]
    )
    assert opened(3, None, None).keys() == {"J", "F", "J&F"}


def test_the_best_steps_have_the_highest_metric_and_the_earlier_of_equals(opened):
    opened.folder.mkdir()
    for step, value in ((3, 0.5), (6, 0.7), (9, 0.7), (12, float("nan"))):
        (opened.folder / f"{step:07d}.json").write_text(json.dumps({"J&F": value}))
    there = range(1, 13)
    assert opened.best(1, there) == [6]
    assert opened.best(3, there) == [6, 9, 3]
    assert opened.best(0, there) == []
    assert opened.best(1, [3, 9, 10]) == [9]  # the checkpoint of step 6 is gone


def test_it_is_due_every_so_many_steps_and_at_the_end(opened):
    assert [step for step in range(8) if opened.is_due(step, 7)] == [3, 6, 7]


def test_a_request_to_stop_cuts_it_short_and_leaves_no_scores(opened):
    frames = iter([False, False, True])
    with pytest.raises(validation.Abandoned):
        opened(3, None, None, stop=lambda: next(frames))
    assert not opened.is_done(3)


def test_without_it_nothing_is_looked_for(tmp_path):
    config = get_config()
    config.eval.videos = "nowhere"
    opened = validation.open_validation(config, epath.Path(tmp_path))
    assert not any(opened.is_due(step, 10) for step in range(11))
