"""Each writer's files, as read by the programs that they are for."""

import contextlib
import csv
import io
import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from qmra_jax.errors import InputError
from qmra_jax.segmentation.image_writers import cut_out
from qmra_jax.segmentation.outputs import WRITERS
from qmra_jax.segmentation.result_writer import FrameObjects
from qmra_jax.video.reader import VideoReader
from tests.support.videos import read_rgba

SIZE = (33, 47)  # odd: no writer but the overlay may change it


def labels():
    """Object 2 in two parts, object 7 a single pixel in the corner."""
    image = np.zeros(SIZE, np.uint8)
    image[4:20, 6:16], image[10:12, 20:31], image[0, 46] = 2, 2, 7
    return image


VISIBLE = FrameObjects(labels(), np.int32([[5, 4, 30, 20], [0, 0, 0, 0]]), (2, 7), (0.87654, 0.5))
GONE = FrameObjects(np.zeros(SIZE, np.uint8), np.zeros((2, 4), np.int32), (2, 7), (0.0, 0.0))


@pytest.fixture
def video(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((*SIZE, 3), 60 + number, np.uint8)).save(folder / f"f{number}.png")
    return VideoReader(folder)


def write(kind, folder, video, shown=(VISIBLE, GONE, VISIBLE)):
    """Writes three frames; returns the path."""
    writer = WRITERS[kind](folder, video)
    with writer:
        for frame, objects in zip(video.frames(), shown, strict=True):
            writer.write(frame, objects)
    return writer.path


def test_boxes_csv_has_the_boxes_of_b_q_with_frames_from_0(tmp_path, video):
    rows = list(csv.reader(write("boxes", tmp_path, video).open()))
    assert rows[0] == ["frame", "object", "x", "y", "width", "height"]
    assert rows[1] == ["0", "2", "5", "4", "30", "20"]
    assert rows[2] == ["0", "7", "", "", "", ""]
    assert [row[0] for row in rows[1:]] == ["0", "0", "1", "1", "2", "2"]


def test_mot_has_tight_boxes_with_frames_and_pixels_from_1(tmp_path, video):
    assert write("mot", tmp_path, video).read_text().splitlines() == [
        "1,2,7,5,25,16,0.8765,-1,-1,-1",
        "1,7,47,1,1,1,0.5000,-1,-1,-1",
        "3,2,7,5,25,16,0.8765,-1,-1,-1",
        "3,7,47,1,1,1,0.5000,-1,-1,-1",
    ]


def test_pycocotools_reads_the_masks_back(tmp_path, video):
    path = write("coco", tmp_path, video)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        results = coco.loadRes(json.loads(path.read_text())["annotations"])
    names = [image["file_name"] for image in coco.loadImgs([0, 1, 2])]
    assert names == ["f0.png", "f1.png", "f2.png"]
    assert [image["frame_id"] for image in coco.loadImgs([0, 1, 2])] == [0, 1, 2]
    assert coco.getAnnIds(imgIds=[1]) == []
    for image in (0, 2):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image]))
        assert [a["track_id"] for a in annotations] == [2, 7]
        for annotation in annotations:
            mask = labels() == annotation["track_id"]
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
        assert annotations[0]["bbox"] == [6, 4, 25, 16]
        assert annotations[0]["score"] == 0.8765
    assert len(results.anns) == 4


def test_coco_without_objects_is_valid_json(tmp_path, video):
    content = json.loads(write("coco", tmp_path, video, (GONE,) * 3).read_text())
    assert content["annotations"] == []
    assert len(content["images"]) == 3


def test_cutout_images_are_transparent_outside_the_objects(tmp_path, video):
    folder = write("cutout-png", tmp_path, video)
    assert [path.name for path in sorted(folder.iterdir())] == [f"0000{n}.png" for n in range(3)]
    with Image.open(folder / "00002.png") as image:
        assert image.mode == "RGBA"
        pixels = np.asarray(image)
    inside = labels() != 0
    assert (pixels[inside] == [62, 62, 62, 255]).all()
    assert not pixels[~inside].any()


def test_the_cutout_video_is_transparent_outside_the_objects(tmp_path, video):
    frames = read_rgba(write("cutout-webm", tmp_path, video))
    assert len(frames) == 3
    assert frames[0].shape == (*SIZE, 4)
    assert frames[0][8:16, 8:14, 3].min() > 240
    assert frames[0][24:, :, 3].max() < 15
    assert np.abs(frames[0][8:16, 8:14, :3].astype(int) - 60).max() < 8  # not darkened
    assert frames[1][..., 3].max() < 15


def test_a_transparent_margin_keeps_its_colours():
    image = np.full((*SIZE, 3), 90, np.uint8)
    wide = cut_out(image, labels(), margin=2)
    assert wide[3, 6].tolist() == [90, 90, 90, 0]
    assert wide[1, 10].tolist() == [0, 0, 0, 0]
    assert np.array_equal(wide[..., 3] == 255, labels() != 0)


def test_only_the_overlay_grows_to_an_even_size(tmp_path, video):
    shown = VideoReader(write("overlay", tmp_path, video))
    assert shown.size == (34, 48)
    assert [frame.time for frame in shown.frames()] == [Fraction(n, 24) for n in range(3)]
    with Image.open(write("masks", tmp_path, video) / "00000.png") as mask:
        assert np.array_equal(np.asarray(mask), labels())


@pytest.mark.parametrize("kind", WRITERS)
def test_remove_deletes_an_earlier_result_and_nothing_else(tmp_path, video, kind):
    path = write(kind, tmp_path, video)
    (path if path.is_dir() else tmp_path).joinpath("notes.txt").write_text("mine")
    WRITERS[kind].remove(tmp_path)
    left = sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and "frames" not in p.parts)
    assert left == ["notes.txt"]


@pytest.mark.parametrize("kind", ["overlay", "boxes", "mot", "coco", "cutout-webm"])
def test_a_file_appears_when_complete_also_after_an_unreadable_frame(tmp_path, video, kind):
    frames = list(video.frames())

    def begin(error):
        writer = WRITERS[kind](tmp_path, video)
        with contextlib.suppress(type(error)), writer:
            writer.write(frames[0], VISIBLE)
            assert not writer.path.exists()
            raise error
        return writer.path

    path = begin(KeyError("a bug"))
    assert not path.exists()
    assert begin(InputError("a damaged frame")).stat().st_size > 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
