import json

import cv2
import numpy as np
from etils import epath

from qmra_jax.training import distributed, metric_writer
from qmra_jax.training.metric_writer import MetricWriter, open_writer


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_resumed_run_logs_each_step_once(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.scalars(step, {"loss": np.float32(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # cut off by a crash
    writer = MetricWriter(tmp_path, first_step=2)
    writer.scalars(3, {"loss": 30})
    writer.close()
    assert lines(tmp_path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 30.0},
    ]


def test_file_in_a_bucket_is_rewritten_periodically(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_writer, "is_remote", lambda path: True)
    monkeypatch.setattr(metric_writer, "REMOTE_SECONDS", 1e9)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    writer = MetricWriter(tmp_path, first_step=1)
    writer.scalars(2, {"loss": 2})
    assert len(lines(tmp_path)) == 1
    monkeypatch.setattr(metric_writer, "REMOTE_SECONDS", 0)
    writer.scalars(3, {"loss": 3})
    assert len(lines(tmp_path)) == 3
    monkeypatch.setattr(metric_writer, "REMOTE_SECONDS", 1e9)
    writer.scalars(4, {"loss": 4})
    writer.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_pictures_are_lossless(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    writer = MetricWriter(epath.Path(tmp_path))
    writer.picture(12, "triplets", image)
    writer.close()
    written = cv2.imread(str(tmp_path / "pictures" / "triplets-0000012.png"))
    np.testing.assert_array_equal(written[..., ::-1], image)
    assert list((tmp_path / "tensorboard").iterdir())


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    writer = open_writer(tmp_path)
    writer.scalars(1, {"loss": 1})
    writer.picture(1, "triplets", np.zeros((4, 4, 3), np.uint8))
    writer.close()
    assert not any(tmp_path.iterdir())


def test_tensorboard_reads_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    image = np.full((4, 6, 3), (200, 100, 50), np.uint8)
    for first, step in ((0, 1), (1, 2)):  # the second run resumes the first
        writer = MetricWriter(tmp_path, first)
        writer.scalars(step, {"loss": step / 4, "validation/J": 0.5})
        writer.picture(step, "triplets", image)
        writer.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(1, 0.25), (2, 0.5)]
    assert [e.step for e in board.Scalars("validation/J")] == [1, 2]
    picture = board.Images("triplets")[1]
    assert (picture.step, picture.height, picture.width) == (2, 4, 6)
    jpeg = np.frombuffer(picture.encoded_image_string, np.uint8)
    np.testing.assert_allclose(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1], image, atol=3)
