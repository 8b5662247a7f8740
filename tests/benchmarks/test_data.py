"""The data benchmark prints and writes the same results."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import data as benchmark
from benchmarks import made_files
from benchmarks.stages import cost
from data_pipeline.triplets.triplets import Augmentation, static_triplet

TINY = [
    "--crop=32", "--batch=2", "--seconds=0.05", "--batches=8", "--workers=1", "--data=",
    "--stills=2", "--videos=1", "--frames=3",
]  # fmt: skip


@pytest.fixture
def small_and_quick(monkeypatch):
    monkeypatch.setattr(made_files, "STILL", (30, 40))
    monkeypatch.setattr(made_files, "FRAME", (48, 64))
    monkeypatch.setattr(benchmark, "WINDOWS", 1)
    monkeypatch.setattr(benchmark, "RESTARTS", 1)


@pytest.mark.usefixtures("small_and_quick")
def test_every_source_is_measured_printed_and_written(tmp_path, capsys):
    path = tmp_path / "data.json"
    benchmark.main([*TINY, f"--json={path}"])
    found, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert found["about"]["command"].startswith("python -m benchmarks.data --crop=32 --batch=2")
    assert f"- machine: {found['about']['machine']}\n" in printed
    assert all(f"**{table['title']}**" in printed for table in found["tables"])
    speed, stages, restart, memory = (table["rows"] for table in found["tables"])
    assert [row[0] for row in speed] == [row[0] for row in stages] == [row[0] for row in restart]
    assert [row[0].split(" (")[0] for row in speed] == [
        *("static: files", "static: TFRecords of them"),
        *("video: files", "video: TFRecords of them"),
        *("half static, half video: files", "video: synthetic"),
    ]
    assert all(row[2] <= row[1] <= row[3] and row[2] > 0 for row in speed)
    for name, *parts, whole, _ in stages:
        assert sum(parts) == pytest.approx(whole)
        # Zero would mean that a stage's functions have been renamed.
        assert all(parts if "synthetic" not in name else parts[3:])
    assert memory[0][0] == 8


def test_made_files_are_as_large_as_real_ones(tmp_path):
    made_files.make_stills(tmp_path / "stills", 2)
    made_files.make_videos(tmp_path / "videos", 1, frames=3)
    assert 45 < made_files.kilobytes(tmp_path / "stills") < 80
    assert 85 < made_files.kilobytes(tmp_path / "videos") < 140
    for path in tmp_path.rglob("*.png"):
        mask = np.asarray(Image.open(path))
        assert set(np.unique(mask)) == {0, 255}
        assert 0.05 < (mask > 0).mean() < 0.5


def test_stages_of_a_triplet_add_up_to_it():
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:55] = 1
    image, augmentation = np.repeat(mask[..., None], 3, axis=-1), Augmentation(crop=256)
    found = cost(
        lambda k: static_triplet(image, mask, np.random.default_rng(k), augmentation), 0, 20
    )
    assert sum(found.stages.values()) == pytest.approx(found.whole)
    assert found.stages["read"] == found.stages["decode image"] == 0
    assert found.stages["warp"] > found.stages["draw"] > 0
    assert all(found.stages[name] > 0 for name in ("positions", "colour", "other"))
