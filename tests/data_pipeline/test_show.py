"""The sheet of triplets shows what the network sees: names, masks and boxes of all frames."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import smoke
from data_pipeline.show import sheet
from data_pipeline.triplets.examples import open_examples
from data_pipeline.triplets.triplets import Triplet
from qmra_jax.boxes import mask_to_box
from tests.support.processes import complaints

ROOT = Path(__file__).parents[2]
CELL = 100


def triplet(grey=120, side=50):
    """Grey frames, in which a square lies ever further to the right."""
    masks = np.zeros((3, side, side), np.uint8)
    for k in range(3):
        masks[k, 20:40, 5 + 10 * k : 15 + 10 * k] = 1
    return Triplet(np.full((3, side, side, 3), grey, np.uint8), masks, mask_to_box(masks))


def frames(image):
    """The three cells of a sheet of one row, and the line above them."""
    top = image.shape[0] - CELL
    gap = (image.shape[1] - 3 * CELL) // 2
    cells = [image[top:, k * (CELL + gap) :][:, :CELL] for k in range(3)]
    return cells, image[:top]


def test_every_frame_shows_its_mask_and_its_box_in_place():
    cells, _ = frames(sheet(["a"], [triplet()], cell=CELL))
    for k, cell in enumerate(cells):
        changed = (cell != 120).any(axis=-1)
        left = 10 + 20 * k  # twice as large as in the triplet
        inside = np.zeros_like(changed)
        inside[40:80, left : left + 20] = True
        assert changed[inside].all()
        near = np.zeros_like(changed)
        near[38:82, max(left - 2, 0) : left + 22] = True  # an outline is soft
        assert not changed[~near].any()


def test_the_name_is_above_its_row_whatever_its_length():
    def ink(name):
        _, line = frames(sheet([name], [triplet()], cell=CELL))
        return np.argwhere(line.min(axis=-1) < 128)

    assert len(ink("duts/1.jpg")) > len(ink("x")) > 0
    long = ink("a/" * 200 + "frames 1,2,3")
    assert 3 * CELL - 30 < long[:, 1].max() < 3 * CELL + 12


def test_rows_follow_in_order():
    both = sheet(["a", "b"], [triplet(), triplet(30)], cell=CELL)
    one = sheet(["a"], [triplet()], cell=CELL)
    assert both.shape == (2 * one.shape[0], *one.shape[1:])
    assert np.array_equal(both[: one.shape[0]], one)
    assert (both[-1, -1] == 30).all()


def run(*arguments):
    command = [sys.executable, "-m", "data_pipeline.show", "--config=configs/smoke.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_draws_synthetic_videos_with_nothing_on_disk(tmp_path):
    output = tmp_path / "sheet.png"
    done = run(f"--output={output}", "--count=2", "--step=3", "--config.data.crop=64")
    assert done.returncode == 0, done.stderr
    config = smoke.get_config()
    config.data.crop = 64
    examples = open_examples(config.data, seed=config.seed, global_batch=config.batch_size)
    names, triplets = zip(*(examples(3 * config.batch_size + i) for i in range(2)), strict=True)
    assert done.stdout.splitlines() == [*names, f"wrote {output}"]
    with Image.open(output) as image:
        assert np.array_equal(np.asarray(image), sheet(names, triplets))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--output=a.png", "--config.data.crop=50"], "data.crop=50"),
        (["--output=a/b.png"], "--output=a/b.png"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, named):
    done = run(*arguments)
    assert done.returncode == 2
    message = complaints(done)
    assert message.startswith("error: ")
    assert named in message
    assert message.count("\n") == 1
