"""Images are decoded as stored, or refused by name."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from qmra_jax import images
from qmra_jax.errors import InputError
from qmra_jax.images import check_headers, check_whole, decode_image, read_image, size_text

NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


def encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_images_are_read_as_rgb(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(NOISE, "png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), NOISE)
    grey = decode_image(encoded(NOISE[..., 0], "png"), "a")
    np.testing.assert_array_equal(grey, np.repeat(NOISE[..., :1], 3, axis=-1))


@pytest.mark.parametrize("plain", [True, False], ids=["OpenCV", "Pillow"])
def test_photos_are_turned_by_exif_if_asked(monkeypatch, plain):
    if not plain:
        monkeypatch.setattr(cv2, "imdecode", lambda data, flags: None)
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # clockwise, so that the bright left half comes to the top
    data = encoded(stored, "jpeg", exif=exif, quality=95)
    assert decode_image(data, "a").shape == (16, 32, 3)
    turned = decode_image(data, "a", turned=True)
    assert turned.shape == (32, 16, 3)
    assert turned[:12].min() > 150
    assert turned[20:].max() < 50


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_truncated_images_are_refused_by_name(kind):
    data = encoded(NOISE, kind)
    assert decode_image(data, "whole").shape == NOISE.shape
    for part in (data[: len(data) // 2], b"", b"no image"):
        with pytest.raises(InputError, match=r"^image in/shard-3#7 "):
            decode_image(part, "in/shard-3#7")


def test_a_truncated_jpeg_with_a_thumbnail_is_refused():
    data = encoded(NOISE, "jpeg", comment=b"a thumbnail ends like this: \xff\xd9")
    with pytest.raises(InputError, match="image a "):
        decode_image(data[:-500], "a")


def test_bytes_after_a_jpeg_are_ignored():
    data = encoded(np.full((16, 16, 3), 77, np.uint8), "jpeg")
    assert (decode_image(data + bytes(1000), "a") == 77).all()


def test_a_size_is_width_by_height():
    assert size_text(NOISE.shape) == size_text(NOISE[..., 0].shape) == "48x64"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.jpg .*No such file"):
        read_image(tmp_path / "gone.jpg")


def test_sizes_that_differ_are_counted_and_the_first_named(tmp_path):
    pairs = []
    for k in range(8):
        pair = (tmp_path / f"{k}.jpg", tmp_path / f"{k}.png")
        pair[0].write_bytes(encoded(NOISE, "jpeg"))
        pair[1].write_bytes(encoded(NOISE[: 64 if k < 2 else 32, :, 0], "png"))
        pairs.append(pair)
    check_headers(pairs[:2])
    pairs[2][1].write_bytes(b"no image")
    named = r"^6 of 8 .*2\.png .*3\.jpg is 48x64 but .*3\.png is 48x32; .*6\.png .* and 1 more"
    with pytest.raises(InputError, match=named):
        check_headers(pairs)


def test_truncated_files_are_named_without_decoding_whole_ones(tmp_path, monkeypatch):
    jpeg, png = encoded(NOISE, "jpeg"), encoded(NOISE, "png")
    files = {
        "whole.jpg": jpeg,
        "whole.png": png,
        "trailer.jpg": jpeg + bytes(900),  # some cameras append data
        "short.jpg": jpeg[:-200],
        "short.png": png[:-200],
        "empty.jpg": b"",
        "text.jpg": b"not an image",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in (*files, "absent.jpg")]
    decoded = []

    def spy(path):
        decoded.append(path.name)
        return read_image(path)

    monkeypatch.setattr(images, "read_image", spy)
    with pytest.raises(InputError) as refused:
        check_whole(paths, "get them again")
    bad = ("absent.jpg", "empty.jpg", "short.jpg", "short.png", "text.jpg")
    message = str(refused.value)
    assert message.startswith("5 of 8 ")
    assert message.endswith(": get them again")
    assert "; ".join(str(tmp_path / name) for name in bad) in message
    assert not {"whole.jpg", "whole.png"} & set(decoded)
    check_whole(paths[:3])
