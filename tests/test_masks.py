"""Label maps keep their labels on disk; 255 is void or the object."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmra_jax.errors import InputError
from qmra_jax.masks import (
    PALETTE,
    foreground,
    label_counts,
    objects_in,
    read_labels,
    write_labels,
)

FIXTURES = Path(__file__).parent / "fixtures" / "davis_metrics"
LABELS = np.array([[0, 1, 2], [3, 22, 255]], np.uint8)


def test_written_labels_are_read_back_and_carry_davis_colours(tmp_path):
    write_labels(tmp_path / "new" / "00000.png", LABELS)
    np.testing.assert_array_equal(read_labels(tmp_path / "new" / "00000.png"), LABELS)
    with Image.open(tmp_path / "new" / "00000.png") as image:
        assert image.mode == "P"
        colours = np.asarray(image.convert("RGB"))
    assert colours[0].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    np.testing.assert_array_equal(colours, PALETTE[LABELS])


def test_the_palette_is_that_of_davis():
    with Image.open(FIXTURES / "gt/Annotations/480p/tiny/00000.png") as image:
        stored = np.reshape(image.getpalette(), (-1, 3))
    np.testing.assert_array_equal(PALETTE, stored)
    assert len(np.unique(PALETTE, axis=0)) == 256


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "LA"])
def test_grey_masks_of_any_mode_give_their_values_unscaled(tmp_path, mode):
    expected = LABELS if mode != "1" else (LABELS > 1).astype(np.uint8)
    stored = Image.fromarray(LABELS > 1) if mode == "1" else Image.fromarray(LABELS).convert(mode)
    stored.save(tmp_path / "mask.png")
    labels = read_labels(tmp_path / "mask.png")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("stored", "mode"),
    [
        (Image.fromarray(PALETTE[LABELS]), "mode RGB"),
        (Image.fromarray(np.stack([LABELS, LABELS], axis=-1), mode="LA"), "mode LA"),
        (Image.fromarray(LABELS.astype(np.uint16) * 257), "mode I;16"),
    ],
    ids=["colours", "grey seen through alpha", "16 bits"],
)
def test_pixels_that_are_not_labels_are_refused_by_name(tmp_path, stored, mode):
    stored.save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"mask\.png.*{mode}"):
        read_labels(tmp_path / "mask.png")


def test_missing_foreign_and_truncated_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    write_labels(tmp_path / "cut.png", LABELS.repeat(64, axis=0))
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("none.png", "text.png", "cut.png"):
        with pytest.raises(InputError, match=f"mask {tmp_path / name}"):
            read_labels(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    write_labels(tmp_path / "mask.png", LABELS)

    def half_written(self, path, format):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        write_labels(tmp_path / "mask.png", LABELS * 0)
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png"), LABELS)


@pytest.mark.parametrize("labels", [LABELS.astype(np.int32), LABELS[None]])
def test_labels_of_another_type_or_shape_are_refused(tmp_path, labels):
    with pytest.raises(ValueError, match=r"expected uint8 \[h, w\]"):
        write_labels(tmp_path / "mask.png", labels)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[0, 255], [255, 0]], [[0, 1], [1, 0]]),  # 255 is the one object
        ([[[0, 1, 2, 255]], [[0, 0, 0, 255]]], [[[0, 1, 1, 0]], [[0, 0, 0, 0]]]),  # void
        ([[0, 0, 0]], [[0, 0, 0]]),
    ],
)
def test_255_is_void_beside_objects_and_else_the_object(labels, expected):
    np.testing.assert_array_equal(foreground(np.array(labels, np.uint8)), np.array(expected, bool))


def test_a_0_255_mask_blended_by_resizing_is_refused():
    with pytest.raises(InputError, match=r"255 and also 191.*threshold"):
        foreground(np.array([[0, 64, 191, 255]], np.uint8))


def test_labels_are_counted():
    labels = np.random.default_rng(1).integers(0, 256, (50, 60), dtype=np.uint8)
    for part in (labels, labels[::2, 1:]):
        expected = np.bincount(part.ravel(), minlength=256)
        np.testing.assert_array_equal(label_counts(part), expected)


@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_objects_are_the_labels_without_background_and_void(kind):
    assert objects_in(LABELS.astype(kind)) == (1, 2, 3, 22)
    assert objects_in(np.stack([LABELS * 0, LABELS]).astype(kind)) == (1, 2, 3, 22)
    assert objects_in(np.array([[0, 255]], kind)) == ()
