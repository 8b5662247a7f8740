"""Every static dataset's official layout is built correctly; bad files are reported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from data_pipeline.builders import pairs
from data_pipeline.builders.coco_masks.coco_masks_dataset_builder import paint
from qmra_jax.errors import InputError
from qmra_jax.masks import PALETTE, VOID, decode_labels
from tests.support.datasets import SIZE, picture, save, square
from tests.support.reading import builder_class as builder
from tests.support.reading import built, decoded, records, summary

pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")  # pycocotools

ROOT = Path(__file__).parents[3]
SHAPE = SIZE[::-1]


def add(image, mask, pixels=None, seed=0):
    """A pair at these two paths; the mask 0/255 unless given."""
    save(image, picture(seed))
    save(mask, square() if pixels is None else pixels)
    return image


def masks_of(folder, split="train"):
    """Name to labels, once decoded from the record's own bytes."""
    return {
        record["name"][0].decode(): decode_labels(record["mask"][0], "record")
        for record in records(folder, split)
    }


# Layouts: where each dataset's archive puts an image and its mask.
LAYOUTS = {
    "duts": {
        "train": ("DUTS-TR/DUTS-TR-Image/{}.jpg", "DUTS-TR/DUTS-TR-Mask/{}.png"),
        "test": ("DUTS-TE/DUTS-TE-Image/{}.jpg", "DUTS-TE/DUTS-TE-Mask/{}.png"),
    },
    "hku_is": {"train": ("imgs/{}.png", "gt/{}.png")},
    "msra10k": {"train": ("MSRA10K_Imgs_GT/Imgs/{}.jpg", "MSRA10K_Imgs_GT/Imgs/{}.png")},
    "soc": {
        "train": ("SOC6K_Release/TrainSet/Imgs/{}.jpg", "SOC6K_Release/TrainSet/gt/{}.png"),
        "val": ("SOC6K_Release/ValSet/Imgs/{}.jpg", "SOC6K_Release/ValSet/gt/{}.png"),
        "test": ("SOC6K_Release/TestSet/Imgs/{}.jpg", "SOC6K_Release/TestSet/gt/{}.png"),
    },
    "ecssd": {"train": ("images/{}.jpg", "ground_truth_mask/{}.png")},
    "image_masks": {"train": ("images/{}.jpeg", "masks/{}.png")},
}
INNER = {  # the folder that an archive makes; manual_dir is it, or contains it
    "duts": "DUTS",
    "hku_is": "HKU-IS",
    "msra10k": "MSRA10K_Imgs_GT",
    "soc": "SOC6K_Release",
    "ecssd": "ECSSD",
}


STEMS = ("ILSVRC_1", "x.y", "b")


def make_tree(name, root, stems=STEMS):
    """The dataset's layout below a folder, the k-th mask's square k pixels further right.

    Returns:
      split -> the images, in the order of the stems.
    """
    return {
        split: [
            add(root / image.format(stem), root / mask.format(stem), square(left=k), k)
            for k, stem in enumerate(stems)
        ]
        for split, (image, mask) in LAYOUTS[name].items()
    }


def listings(name, manual_dir):
    return builder(name)(data_dir=manual_dir / "data").listings(manual_dir)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_official_layout_becomes_records_with_the_files_own_bytes(name, tmp_path):
    images = make_tree(name, tmp_path / "downloads")
    folder = built(builder(name), tmp_path / "downloads", tmp_path / "data")
    assert folder == tmp_path / f"data/{name}/1.0.0"
    for split, paths in images.items():
        stored = {record["name"][0].decode(): record["image"] for record in records(folder, split)}
        assert stored == {path.name: [path.read_bytes()] for path in paths}
        for k, path in enumerate(paths):
            np.testing.assert_array_equal(masks_of(folder, split)[path.name], square(1, left=k))
        assert summary(folder, split)["counts"] == {"objects": 3}
    first = decoded(folder)[0]
    assert first["image"].shape == (*SHAPE, 3)
    assert set(np.unique(first["mask"])) == {0, 1}


@pytest.mark.parametrize("name", INNER)
def test_manual_dir_may_be_the_archive_s_folder_or_the_one_above(name, tmp_path):
    make_tree(name, tmp_path, stems=("a",))
    inner = tmp_path / INNER[name]
    if not inner.exists():  # the archive has no folder of its own: users make one
        content = list(tmp_path.iterdir())
        inner.mkdir()
        for path in content:
            path.rename(inner / path.name)
    for manual_dir in (tmp_path, inner):
        counts = [len(listing.items) for listing in listings(name, manual_dir).values()]
        assert counts == [1] * len(LAYOUTS[name])


@pytest.mark.parametrize("name", [*LAYOUTS, "coco_masks"])
def test_another_layout_is_refused(name, tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"found .*pictures"):
        listings(name, tmp_path)


def test_duts_may_lack_its_test_half(tmp_path):
    make_tree("duts", tmp_path)
    (tmp_path / "DUTS-TE").rename(tmp_path / "elsewhere")
    assert list(listings("duts", tmp_path)) == ["train"]


def test_soc_s_images_without_a_salient_object_are_skipped(tmp_path):
    make_tree("soc", tmp_path / "in")
    train = tmp_path / "in/SOC6K_Release/TrainSet"
    add(train / "Imgs/empty.jpg", train / "gt/empty.png", square(0))
    save(train / "Imgs/none.jpg", picture())
    folder = built(builder("soc"), tmp_path / "in", tmp_path / "data")
    assert len(records(folder)) == 3
    assert summary(folder)["skipped"] == {"images without a salient object": 2}
    assert summary(folder)["faults"] == []


# Bad and repaired files


@pytest.fixture
def ecssd(tmp_path):
    """Three good pairs: a, b and z."""
    for stem in "abz":
        add(tmp_path / f"in/images/{stem}.jpg", tmp_path / f"in/ground_truth_mask/{stem}.png")
    return tmp_path / "in"


SPOILED = {  # change to the image and mask of b; fault; whether b is still built
    "cut short": (lambda i, m: i.write_bytes(i.read_bytes()[:-80]), r"b\.jpg", False),
    "WebP": (lambda i, m: Image.open(i).save(i, "WEBP"), r"b\.jpg is a WEBP", False),
    "sizes": (lambda i, m: save(m, square(size=(40, 31))), r"b\.png is 40x31 .*40x32", False),
    "empty mask": (lambda i, m: save(m, square(0)), r"b\.png is empty", False),
    "colours": (lambda i, m: save(m, picture()), r"b\.png.* RGB", False),
    "ids": (lambda i, m: save(m, square(2)), r"b\.png holds values up to 2", False),
    "broken mask": (lambda i, m: m.write_bytes(b"\x89PNG\r\n\x1a\n"), r"b\.png", False),
    "no bytes": (lambda i, m: m.write_bytes(b""), r"b\.png.*no image", False),
    "no mask": (lambda i, m: m.unlink(), r"b\.jpg has no mask", False),
    "no image": (lambda i, m: i.unlink(), r"b\.png has no image", False),
    "twice": (lambda i, m: save(i.with_suffix(".png"), picture()), r"b\.png: .* as b\.jpg", True),
    "BMP": (lambda i, m: save(i.with_name("c.bmp"), picture()), r"not read: 1 \(c\.bmp\)", True),
    "JPEG mask": (lambda i, m: save(m.with_suffix(".jpg"), square()), r"1 \(b\.jpg\)", True),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_bad_pair_stops_the_build_or_is_left_out(ecssd, tmp_path, monkeypatch, kind):
    spoil, message, stays = SPOILED[kind]
    spoil(ecssd / "images/b.jpg", ecssd / "ground_truth_mask/b.png")
    with pytest.raises(InputError, match=f"(?s)1 fault,.*{message}"):
        built(builder("ecssd"), ecssd, tmp_path / "data")
    assert not (tmp_path / "data/ecssd/1.0.0").exists()
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    folder = built(builder("ecssd"), ecssd, tmp_path / "data")
    assert sorted(masks_of(folder)) == ["a.jpg", *["b.jpg"] * stays, "z.jpg"]
    assert len(summary(folder)["faults"]) == 1


def test_one_folder_of_images_and_masks_may_hold_no_other_images(tmp_path):
    make_tree("msra10k", tmp_path)
    folder = tmp_path / "MSRA10K_Imgs_GT/Imgs"
    assert listings("msra10k", tmp_path)["train"].faults == ()
    (folder / "a.tif").touch()
    (folder / "b.WEBP").touch()
    (fault,) = listings("msra10k", tmp_path)["train"].faults
    assert "2 (a.tif, b.WEBP)" in fault


SOFT = cv2.GaussianBlur(square(), (5, 5), 1)
WHITE_IS_0 = np.zeros((256, 3), np.uint8)  # a palette
WHITE_IS_0[0] = 255
BINARY = {  # mask and palette
    "one": (square(1), None),
    "soft": (SOFT, None),
    "rgb": (np.repeat(square()[..., None], 3, axis=-1), None),
    "bit": (square() > 0, None),
    "palette": (np.where(square() > 0, 0, 200).astype(np.uint8), WHITE_IS_0),
    "davis": (square(1), PALETTE),
}


def test_binary_masks_of_every_kind_become_0_and_1(tmp_path):
    for stem, (mask, palette) in BINARY.items():
        save(tmp_path / f"in/images/{stem}.jpg", picture())
        save(tmp_path / f"in/ground_truth_mask/{stem}.png", mask, palette)
    folder = built(builder("ecssd"), tmp_path / "in", tmp_path / "data")
    for file, labels in masks_of(folder).items():
        expected = SOFT >= 128 if file == "soft.jpg" else square(1)
        np.testing.assert_array_equal(labels, expected, err_msg=file)
    assert summary(folder)["counts"] == {
        "objects": 6,
        "masks with blended edges, cut at 128": 1,
        "grey masks saved as colour, read as grey": 1,
    }


def test_image_masks_keep_ids_and_split_folders(tmp_path):
    labels = square(3, left=4) + square(7, left=18)
    labels[0, :5] = VOID
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None] * 40, 3, axis=1)
    for split, stem, mask, palette in (
        ("train", "p", labels, PALETTE),
        ("train", "grey", labels, greys),
        ("held_out", "q", square(), None),
    ):
        save(tmp_path / f"in/{split}/images/{stem}.jpg", picture())
        save(tmp_path / f"in/{split}/masks/{stem}.png", mask, palette)
    folder = built(builder("image_masks"), tmp_path / "in", tmp_path / "data")
    for file in ("grey.jpg", "p.jpg"):
        np.testing.assert_array_equal(masks_of(folder)[file], labels)
    np.testing.assert_array_equal(masks_of(folder, "held_out")["q.jpg"], square(1))
    assert summary(folder)["counts"] == {"objects": 4}
    shown = decoded(folder)[0]["mask"][..., 0]  # by TFDS's own decoder
    np.testing.assert_array_equal(shown, labels)


def test_ids_and_binary_masks_are_distinguished_and_ambiguous_ones_refused():
    labels, cut = pairs.as_index(SOFT, "ids or binary", "m.png")
    np.testing.assert_array_equal(labels, SOFT >= 128)
    assert cut
    labels, cut = pairs.as_index(square(9), "ids or binary", "m.png")
    np.testing.assert_array_equal(labels, square(9))
    assert not cut
    with pytest.raises(InputError, match=r"m\.png"):
        pairs.as_index(cv2.GaussianBlur(square(200), (5, 5), 1), "ids or binary", "m.png")


# COCO


def rle(mask, compressed):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    pixels = mask.T.ravel().astype(int)  # column by column
    edges = np.flatnonzero(np.diff(pixels, prepend=0, append=pixels[-1] + 1))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}  # zeros first


def rectangle(left, top, width, height):
    mask = np.zeros(SHAPE, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def polygon(left, top, width, height):
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def coco(tmp_path):
    """train2017 with an image of instances, one of a crowd and one of nothing; val2017 of one."""
    root = tmp_path / "coco"

    def instances(name, files, annotations):
        for file in files:
            save(root / name / file, picture())
        content = {
            "images": [
                {"id": 10 + k, "file_name": file, "height": SHAPE[0], "width": SHAPE[1]}
                for k, file in enumerate(files)
            ],
            "annotations": [
                {"image_id": 10 + k, "segmentation": segmentation, "iscrowd": crowd}
                for k, segmentation, crowd in annotations
            ],
        }
        path = root / f"annotations/instances_{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))

    instances(
        "train2017",
        ["000001.jpg", "000002.jpg", "000003.jpg"],
        [
            (0, polygon(4, 4, 4, 4), 0),
            (0, rle(rectangle(2, 2, 12, 12), compressed=True), 0),
            (0, rle(rectangle(0, 0, 32, 3), compressed=False), 1),
            (1, rle(rectangle(0, 0, 5, 5), compressed=False), 1),
        ],
    )
    instances("val2017", ["000009.jpg"], [(0, polygon(1, 1, 9, 9), 0)])
    return root


def test_coco_instances_become_ids_with_small_ones_on_top_and_crowds_void(coco, tmp_path):
    folder = built(builder("coco_masks"), coco.parent, tmp_path / "data")
    expected = VOID * rectangle(0, 0, 32, 3)
    expected[2:14, 2:14] = 2
    expected[4:8, 4:8] = 1
    np.testing.assert_array_equal(masks_of(folder)["000001.jpg"], expected)
    (record,) = records(folder)
    assert record["image"] == [(coco / "train2017/000001.jpg").read_bytes()]
    assert summary(folder)["counts"] == {"objects": 2, "crowds made void": 1}
    assert summary(folder)["skipped"] == {
        "images without instances": 1,
        "images with nothing but crowds": 1,
    }
    assert summary(folder, "val")["counts"] == {"objects": 1}


def test_an_instance_hidden_by_others_leaves_no_gap_in_the_ids():
    shapes = [polygon(2, 2, 9, 9), polygon(2, 2, 9, 9), polygon(20, 2, 4, 4)]
    instances = [{"segmentation": shape, "iscrowd": 0} for shape in shapes]
    labels, hidden = paint(instances, SHAPE, "x.jpg")
    np.testing.assert_array_equal(np.unique(labels), [0, 1, 2])
    assert hidden == 1


def change_annotations(coco, change):
    path = coco / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"].pop(), r"000003\.jpg is not in instances_train2017\.json"),
        (lambda c: c["images"].append(c["images"][0] | {"file_name": "no.jpg"}), r"no\.jpg"),
        (lambda c: c["images"][0].update(height=99), r"000001\.jpg is 40x32, .* 40x99"),
        (lambda c: c["annotations"][1]["segmentation"].update(size=[40, 32]), r"1\.jpg.* 32x40"),
        (lambda c: c["annotations"][0].update(segmentation="polygon"), r"000001\.jpg: a segm"),
    ],
)
def test_coco_files_that_contradict_their_annotations_are_faults(coco, tmp_path, change, message):
    change_annotations(coco, change)
    with pytest.raises(InputError, match=f"(?s)1 fault, .*{message}"):
        built(builder("coco_masks"), coco, tmp_path / "data")


def test_coco_images_of_any_kind_must_be_annotated(coco):
    save(coco / "train2017/up.JPG", picture())
    save(coco / "train2017/p.png", picture())
    (coco / "train2017/b.bmp").touch()
    faults = listings("coco_masks", coco)["train"].faults
    assert [re.search(r"train2017/(\S+)", fault)[1] for fault in faults] == [
        *("b.bmp", "p.png", "up.JPG")
    ]


def test_a_wrong_annotation_file_is_refused(coco):
    change_annotations(coco, lambda content: content.pop("images"))
    with pytest.raises(InputError, match=r"instances_train2017\.json .*KeyError"):
        listings("coco_masks", coco)


@pytest.mark.slow  # TFDS's command imports Beam and more
def test_tfds_build_accepts_the_builder_s_folder(tmp_path):
    pytest.importorskip("apache_beam", reason="tfds build imports it")
    pytest.importorskip("mlcroissant", reason="tfds build imports it")
    for part in ("TR", "TE"):
        folder = tmp_path / f"duts/DUTS-{part}"
        add(folder / f"DUTS-{part}-Image/a.jpg", folder / f"DUTS-{part}-Mask/a.png")
    command = [Path(sys.executable).with_name("tfds"), "build", "data_pipeline/builders/duts"]
    options = [f"--manual_dir={tmp_path / 'duts'}", f"--data_dir={tmp_path / 'data'}"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(masks_of(tmp_path / "data/duts/1.0.0")) == 1
