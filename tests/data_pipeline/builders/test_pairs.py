"""Every static dataset's official layout becomes the records it should; bad files are told."""

import importlib
import json
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
from tests.support.reading import built, decoded, records, summary

pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")  # pycocotools

ROOT = Path(__file__).parents[3]
SIZE = (24, 32)  # height, width


def builder(name):
    return importlib.import_module(f"data_pipeline.builders.{name}.{name}_dataset_builder").Builder


def save(path, pixels, palette=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(path, **options)
    return path


def picture(seed=0, size=SIZE):
    small = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    return cv2.resize(small, size[::-1])


def square(value=255, left=4, size=SIZE):
    mask = np.zeros(size, np.uint8)
    mask[6:18, left : left + 12] = value
    return mask


def blended(value=255):
    """A square with soft edges, and where it is at least half there."""
    mask = cv2.GaussianBlur(square(value), (5, 5), 1)
    return mask, (mask >= 128).astype(np.uint8)


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
INNER = {  # the folder that an archive makes, which may be given as well, or the one above
    "duts": "DUTS",
    "hku_is": "HKU-IS",
    "msra10k": "MSRA10K_Imgs_GT",
    "soc": "SOC6K_Release",
    "ecssd": "ECSSD",
}


def make_tree(name, root, stems=("ILSVRC_1", "x.y", "b")):
    """The dataset's layout below a folder; gives its images by split and file name."""
    images = {}
    for number, (split, (image, mask)) in enumerate(LAYOUTS[name].items()):
        for seed, stem in enumerate(stems):
            path = add(
                root / image.format(stem), root / mask.format(stem), square(left=seed), 9 * number
            )
            images[split, path.name] = path
    return images


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_official_layout_becomes_records_of_the_very_bytes(name, tmp_path):
    images = make_tree(name, tmp_path / "downloads")
    folder = built(builder(name), tmp_path / "downloads", tmp_path / "data")
    assert folder == tmp_path / f"data/{name}/1.0.0"
    for split in LAYOUTS[name]:
        found = {record["name"][0].decode(): record for record in records(folder, split)}
        assert sorted(found) == sorted(file for s, file in images if s == split)
        for seed, stem in enumerate(("ILSVRC_1", "x.y", "b")):
            file = next(file for file in found if file.startswith(f"{stem}."))
            assert found[file]["image"] == [images[split, file].read_bytes()]
            labels = decode_labels(found[file]["mask"][0], file)
            np.testing.assert_array_equal(labels, square(1, left=seed))
            with Image.open(images[split, file]) as image:
                assert image.size == SIZE[::-1]
        assert summary(folder, split)["counts"] == {"objects": 3}
    first = decoded(folder)[0]
    assert first["image"].shape == (*SIZE, 3)
    assert set(np.unique(first["mask"])) == {0, 1}


@pytest.mark.parametrize("name", INNER)
def test_the_folder_above_or_the_one_the_archive_makes_is_found_too(name, tmp_path):
    make_tree(name, tmp_path, stems=("a",))
    inner = tmp_path / INNER[name]
    if not inner.exists():  # the archive has no folder of its own: users make one
        content = list(tmp_path.iterdir())
        inner.mkdir()
        for path in content:
            path.rename(inner / path.name)
    for manual_dir in (tmp_path, inner):
        listings = builder(name)(data_dir=tmp_path / "data").listings(manual_dir)
        assert [len(listing.items) for listing in listings.values()] == [1] * len(LAYOUTS[name])


@pytest.mark.parametrize("name", [*LAYOUTS, "coco_masks"])
def test_another_layout_is_refused_with_what_was_expected_and_found(name, tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"expected .*found .*pictures"):
        builder(name)(data_dir=tmp_path / "data").listings(tmp_path)


def test_duts_without_its_test_half_is_its_training_half(tmp_path):
    make_tree("duts", tmp_path)
    (tmp_path / "DUTS-TE").rename(tmp_path / "elsewhere")
    assert list(builder("duts")(data_dir=tmp_path / "data").listings(tmp_path)) == ["train"]


def test_soc_s_images_without_a_salient_object_are_told_and_left_out(tmp_path):
    make_tree("soc", tmp_path / "in")
    train = tmp_path / "in/SOC6K_Release/TrainSet"
    add(train / "Imgs/empty.jpg", train / "gt/empty.png", np.zeros(SIZE, np.uint8))
    save(train / "Imgs/none.jpg", picture())
    folder = built(builder("soc"), tmp_path / "in", tmp_path / "data")
    assert len(records(folder, "train")) == 3
    assert summary(folder)["skipped"] == {"images without a salient object": 2}
    assert summary(folder)["faults"] == []


# Bad data, and data to be mended


@pytest.fixture
def ecssd(tmp_path):
    """Two good pairs, a and z, to which a test adds a bad one."""
    for stem in "az":
        add(tmp_path / f"in/images/{stem}.jpg", tmp_path / f"in/ground_truth_mask/{stem}.png")
    return tmp_path / "in"


def truncated(root):
    path = save(root / "images/bad.jpg", picture(size=(90, 90)))
    save(root / "ground_truth_mask/bad.png", square(size=(90, 90)))
    path.write_bytes(path.read_bytes()[:-200])


def other_size(root):
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png", square(size=(24, 31)))


def empty(root):
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png", square(0))


def colours(root):
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[4:9, 4:9] = (128, 0, 0)
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png", pixels)


def ids(root):
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png", square(2))


def no_mask(root):
    save(root / "images/bad.jpg", picture())


def no_image(root):
    save(root / "ground_truth_mask/bad.png", square())


def twice(root):
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png")
    save(root / "images/bad.png", picture())


def another_format(root):
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png")
    Image.fromarray(picture()).save(root / "images/bad.jpg", format="WEBP")


def bmp_image(root):
    path = save(root / "images/bad.bmp", picture())
    assert path.is_file()


def jpeg_mask(root):
    path = root / "ground_truth_mask/z.jpg"
    Image.fromarray(square()).save(path)


def broken_mask(root):
    add(root / "images/bad.jpg", root / "ground_truth_mask/bad.png")
    (root / "ground_truth_mask/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, r"bad\.jpg cannot be read .*truncated"),
        (other_size, r"bad\.png is 31x24 but .*bad\.jpg is 32x24"),
        (empty, r"bad\.png is empty"),
        (colours, r"bad\.png: its pixels are of kind RGB"),
        (ids, r"bad\.png holds values up to 2: expected 0/1 or 0/255"),
        (no_mask, r"bad\.jpg has no mask"),
        (no_image, r"bad\.png has no image"),
        (twice, r"bad\.png: the same name as bad\.jpg"),
        (another_format, r"bad\.jpg is neither JPEG nor PNG"),
        (bmp_image, r"images: images of kinds that are not read: 1 \(bad\.bmp\); expected images"),
        (
            jpeg_mask,
            r"_mask: images of kinds that are not read: 1 \(z\.jpg\); expected masks as \.png",
        ),
        (broken_mask, r"mask .*bad\.png.* cannot be read"),
    ],
)
def test_a_bad_pair_stops_the_build_or_is_left_out_and_told(
    ecssd, tmp_path, monkeypatch, spoil, message
):
    spoil(ecssd)
    with pytest.raises(InputError, match=f"(?s)1 fault, so no dataset was written.*{message}"):
        built(builder("ecssd"), ecssd, tmp_path / "data")
    assert not (tmp_path / "data/ecssd/1.0.0").exists()
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    folder = built(builder("ecssd"), ecssd, tmp_path / "data")
    expected = ["a.jpg", "bad.jpg", "z.jpg"] if spoil is twice else ["a.jpg", "z.jpg"]
    assert sorted(masks_of(folder)) == expected
    assert len(summary(folder)["faults"]) == 1


def test_in_one_folder_of_images_and_masks_both_kinds_are_read_and_others_told(tmp_path):
    make_tree("msra10k", tmp_path)
    folder = tmp_path / "MSRA10K_Imgs_GT/Imgs"
    listings = builder("msra10k")(data_dir=tmp_path / "data").listings
    assert listings(tmp_path)["train"].faults == ()
    (folder / "a.tif").touch()
    (folder / "b.WEBP").touch()
    (fault,) = listings(tmp_path)["train"].faults
    assert "not read: 2 (a.tif, b.WEBP); expected images and masks as .jpg or .png" in fault


def test_no_message_holds_a_place_in_memory(ecssd):
    path = ecssd / "ground_truth_mask/a.png"
    path.write_bytes(b"")
    item = builder("ecssd")(data_dir=ecssd / "data").listings(ecssd)["train"].items[0]
    with pytest.raises(InputError, match=r"mask .*a\.png cannot be read \(no image\)"):
        item.make()


def test_binary_masks_of_every_kind_become_0_and_1_and_repairs_are_counted(ecssd, tmp_path):
    soft, hard = blended()
    greys = np.repeat(square()[..., None], 3, axis=-1)
    shuffled = np.zeros((256, 3), np.uint8)
    shuffled[0] = 255  # the object is index 0, white; the background index 200, black
    masks = {
        "one": square(1),
        "soft": soft,
        "rgb": greys,
        "bit": square() > 0,
        "palette": (np.where(square() > 0, 0, 200).astype(np.uint8), shuffled),
        "davis": (square(1), PALETTE),
    }
    for stem, pixels in masks.items():
        save(ecssd / f"images/{stem}.jpg", picture())
        pixels, palette = pixels if isinstance(pixels, tuple) else (pixels, None)
        save(ecssd / f"ground_truth_mask/{stem}.png", pixels, palette)
    folder = built(builder("ecssd"), ecssd, tmp_path / "data")
    for file, labels in masks_of(folder).items():
        expected = hard if file == "soft.jpg" else square(1)
        np.testing.assert_array_equal(labels, expected, err_msg=file)
    assert summary(folder)["counts"] == {
        "objects": 8,
        "masks with blended edges, cut at 128": 1,
        "grey masks saved as colour, read as grey": 1,
    }


def test_image_masks_keep_ids_also_of_a_palette_png_and_split_folders(tmp_path):
    labels = square(3) + square(7, left=18)
    labels[0, :5] = VOID
    save(tmp_path / "in/train/images/p.jpg", picture())
    save(tmp_path / "in/train/masks/p.png", labels, PALETTE)
    save(tmp_path / "in/train/images/grey.jpg", picture())
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None] * 40, 3, axis=1)
    save(tmp_path / "in/train/masks/grey.png", labels, greys)
    save(tmp_path / "in/held_out/images/q.png", picture())
    save(tmp_path / "in/held_out/masks/q.png", square(255))
    folder = built(builder("image_masks"), tmp_path / "in", tmp_path / "data")
    for file in ("grey.jpg", "p.jpg"):
        np.testing.assert_array_equal(masks_of(folder)[file], labels)
    np.testing.assert_array_equal(masks_of(folder, "held_out")["q.png"], square(1))
    assert summary(folder)["counts"] == {"objects": 4}
    shown = decoded(folder)[0]["mask"][..., 0]  # TFDS's own decoder sees the ids too
    np.testing.assert_array_equal(shown, labels)


def test_ids_and_binary_masks_are_told_apart_and_what_could_be_either_is_refused():
    soft, hard = blended()
    labels, cut = pairs.ids_index(soft, "m.png")
    np.testing.assert_array_equal(labels, hard)
    assert cut
    plain, cut = pairs.ids_index(square(9), "m.png")
    assert (plain == square(9)).all()
    assert not cut
    with pytest.raises(InputError, match=r"m\.png holds values of 128 to 254, and 255 is not"):
        pairs.ids_index(blended(200)[0], "m.png")
    void = square(VOID)
    void[7:9, 6:9] = 2
    with pytest.raises(InputError, match=r"m\.png holds ids but more of 255"):
        pairs.ids_index(void, "m.png")


# COCO


def rle(mask, compressed):
    found = coco_mask.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": found["size"], "counts": found["counts"].decode()}
    runs, last = [], 0
    for value in mask.T.ravel().tolist():  # column by column, zeros first
        if value != last or not runs:
            runs += [0] if not runs and value else []
            runs.append(0)
            last = value
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def rectangle(left, top, width, height):
    mask = np.zeros(SIZE, np.uint8)
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
                {"id": 10 + k, "file_name": file, "height": SIZE[0], "width": SIZE[1]}
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


def test_coco_s_instances_become_ids_small_ones_on_top_and_crowds_void(coco, tmp_path):
    folder = built(builder("coco_masks"), coco.parent, tmp_path / "data")
    expected = VOID * rectangle(0, 0, 32, 3)
    expected[2:14, 2:14] = 2
    expected[4:8, 4:8] = 1
    np.testing.assert_array_equal(masks_of(folder)["000001.jpg"], expected)
    (record,) = records(folder, "train")
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
    labels, hidden = paint(instances, SIZE, "x.jpg")
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
        (
            lambda c: c["images"].append(c["images"][0] | {"file_name": "gone.jpg"}),
            r"gone\.jpg is in instances_train2017\.json, but not there",
        ),
        (
            lambda c: c["images"][0].update(height=99),
            r"000001\.jpg is 32x24, but annotated as 32x99",
        ),
        (
            lambda c: c["annotations"][1]["segmentation"].update(size=[32, 24]),
            r"000001\.jpg is 32x24, but a segmentation is of 24x32",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation="polygon"),
            r"000001\.jpg: a segmentation cannot be decoded",
        ),
    ],
)
def test_coco_files_that_do_not_fit_their_annotations_are_faults(coco, tmp_path, change, message):
    change_annotations(coco, change)
    with pytest.raises(InputError, match=f"(?s)1 fault, .*{message}"):
        built(builder("coco_masks"), coco, tmp_path / "data")


def test_coco_images_of_any_ending_must_be_in_the_annotations(coco, tmp_path):
    save(coco / "train2017/up.JPG", picture())
    save(coco / "train2017/p.png", picture())
    (coco / "train2017/b.bmp").touch()
    listing = builder("coco_masks")(data_dir=tmp_path / "data").listings(coco)["train"]
    found = [fault.split("train2017/")[1] for fault in listing.faults]
    assert found == [
        f"{name} is not in instances_train2017.json" for name in ("b.bmp", "p.png", "up.JPG")
    ]


def test_a_file_that_is_no_coco_annotations_is_refused(coco, tmp_path):
    change_annotations(coco, lambda content: content.pop("images"))
    with pytest.raises(InputError, match=r"instances_train2017\.json are no COCO instances"):
        builder("coco_masks")(data_dir=tmp_path / "data").listings(coco)


def test_tfds_build_takes_the_builder_s_folder(tmp_path):
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
