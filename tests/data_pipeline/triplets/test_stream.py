"""The stream is a function of (seed, step): no state, the same for any number of hosts."""

import contextlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs.small import get_config
from data_pipeline.datasets.records import Records
from data_pipeline.triplets import tf_stream
from data_pipeline.triplets.examples import open_examples
from data_pipeline.triplets.host_examples import HostExamples
from data_pipeline.triplets.stream import open_stream
from qmra_jax.errors import InputError
from tests.support import datasets
from tests.support.datasets import pair_record, save, video_record, write_records
from tests.support.processes import complaints

HERE = Path(__file__).parents[3]
STILLS, BATCH = 10, 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten image and mask pairs in two folders, and two videos of six frames; and built in tfds/."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    mask = np.zeros((40, 50), np.uint8)
    mask[10:30, 15:35] = 255
    for i in range(STILLS):
        folder = root / ("one" if i < 6 else "two")
        save(folder / "images" / f"{i}.png", rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        save(folder / "masks" / f"{i}.png", mask)
    for name, k in itertools.product(("bear", "swan"), range(6)):
        frame = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        save(root / f"davis/JPEGImages/480p/{name}/{k:05d}.png", frame)
        save(root / f"davis/Annotations/480p/{name}/{k:05d}.png", mask)
    (root / "davis/ImageSets/2016").mkdir(parents=True)
    (root / "davis/ImageSets/2016/train.txt").write_text("bear\nswan\n")
    for folder in ("one", "two"):
        images, masks = (sorted((root / folder / kind).iterdir()) for kind in ("images", "masks"))
        pairs = [pair_record(*files) for files in zip(images, masks, strict=True)]
        write_records(root / "tfds" / folder / "1.0.0", datasets.PAIR, pairs, shards=2)
    videos = [video_record(root / "davis", name) for name in ("bear", "swan")]
    write_records(root / "tfds/davis/1.0.0", datasets.VIDEO, videos, shards=2, offsets=True)
    return root


@pytest.fixture
def data(root) -> ConfigDict:
    return ConfigDict(
        {
            "root": str(root),
            "static": ("one", "two"),
            "videos": ("davis:train",),
            "video_share": ((0, 0.5),),
            "max_gap": ((0, 1), (5, 2)),
            "crop": 32,
            "rotation": 20.0,
            "scale": (0.9, 1.5),
            "shift": 0.1,
            "shear": 0.0,
            "flip": True,
            "tps": 0.05,
            "colour_jitter": 0.2,
            "distractors": 0.0,
            "loader": "tf.data",
            "workers": 2,
            "prefetch": 2,
        }
    )


@pytest.fixture
def built(data) -> ConfigDict:
    """The same datasets as TFRecords."""
    other = data.copy_and_resolve_references()
    other.update(static=("tfds/one", "tfds/two"), videos=("tfds/davis",))
    return other


@pytest.fixture(params=["raw", "built", "synthetic"])
def any_data(request, data, built) -> ConfigDict:
    """Settings of each kind of dataset in turn."""
    if request.param == "synthetic":
        data.update(static=(), videos=("synthetic@0.01",), video_share=((0, 1.0),), prefetch=1)
    return built if request.param == "built" else data


def take(data, steps, **kwargs):
    stream = open_stream(data, **({"seed": 3, "global_batch": BATCH} | kwargs))
    with contextlib.closing(stream):
        return list(itertools.islice(stream, steps))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_batches_have_the_promised_shapes_before_and_after_running(data):
    examples = HostExamples(open_examples(data, seed=0, global_batch=BATCH), 0, 0, BATCH)
    shapes = {
        "images": ((BATCH, 3, 32, 32, 3), "uint8"),
        "masks": ((BATCH, 3, 32, 32), "uint8"),
        "boxes": ((BATCH, 3, 4), "int32"),
        "id": ((BATCH,), "string"),
    }
    spec = tf_stream.make_dataset(examples, workers=1, prefetch=1).element_spec
    assert {n: (tuple(s.shape), s.dtype.name) for n, s in spec.items()} == shapes
    (batch,) = take(data, 1)
    for name, (shape, kind) in shapes.items():
        assert batch[name].shape == shape
        assert kind == "string" or batch[name].dtype == kind


def test_batches_hold_the_numbered_examples_in_order(data):
    examples = open_examples(data, seed=3, global_batch=BATCH)
    for step, batch in enumerate(take(data, 3)):
        for i in range(BATCH):
            name, triplet = examples(step * BATCH + i)
            assert batch["id"][i].decode() == name
            for field, value in triplet._asdict().items():
                np.testing.assert_array_equal(batch[field][i], value)


def test_a_stream_that_starts_at_step_4_goes_on_as_one_that_ran_there(any_data):
    for ran, resumed in zip(take(any_data, 6)[4:], take(any_data, 2, start_step=4), strict=True):
        assert_same(ran, resumed)


@pytest.mark.parametrize("step", [0, 100_000, 10**9])
def test_starting_late_reads_no_more_than_starting_at_once(step, built, monkeypatch):
    read = []

    def counted(records, i, original=Records.__getitem__):
        read.append(i)
        return original(records, i)

    monkeypatch.setattr(Records, "__getitem__", counted)
    (batch,) = take(built, 1, start_step=step)
    assert batch["boxes"][..., 2:].min() > 0
    ahead = built.prefetch + 1  # batches, and what the workers hold
    assert BATCH <= len(read) <= (1 + ahead) * BATCH + built.workers


def test_records_give_the_very_triplets_of_the_raw_files(data, built):
    for raw, recorded in zip(take(data, 8), take(built, 8), strict=True):
        recorded["id"] = np.array([name.removeprefix(b"tfds/") for name in recorded["id"]], object)
        assert_same(raw, recorded)


def test_processes_read_records_too(built):
    by_threads = take(built, 2)
    built.update(loader="processes", workers=1)
    for ours, theirs in zip(take(built, 2), by_threads, strict=True):
        assert_same(ours, theirs)


def test_another_seed_is_another_stream(data):
    (a,), (b,) = take(data, 1), take(data, 1, seed=4)
    assert not np.array_equal(a["images"], b["images"])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batch_of_one_host(any_data, hosts):
    whole = take(any_data, 2, start_step=4)
    parts = [take(any_data, 2, start_step=4, host_index=h, host_count=hosts) for h in range(hosts)]
    for batch, *split in zip(whole, *parts, strict=True):
        joined = {name: np.concatenate([part[name] for part in split]) for name in batch}
        assert_same(batch, joined)


def test_the_id_names_dataset_video_object_and_frames(data):
    names = [name.decode() for batch in take(data, 5) for name in batch["id"]]
    videos = {n for n in names if re.fullmatch(r"davis/(bear|swan)/object 1/frames \d,\d,\d", n)}
    stills = {n for n in names if re.fullmatch(r"(one|two)/\d\.png#1", n)}
    assert videos
    assert stills
    assert videos | stills == set(names)


def test_a_relative_source_is_found_below_qmra_data(data, root, monkeypatch):
    data.root = ""
    monkeypatch.setenv("QMRA_DATA", str(root))
    assert len(take(data, 1)[0]["id"]) == BATCH
    monkeypatch.delenv("QMRA_DATA")
    with pytest.raises(
        InputError, match=r"'one' is relative, but data\.root is empty and QMRA_DATA"
    ):
        take(data, 1)


def test_an_absolute_source_needs_no_root(data, root, monkeypatch):
    monkeypatch.delenv("QMRA_DATA", raising=False)
    data.root, data.static, data.videos = "", (str(root / "one"),), (f"{root}/davis:train",)
    assert len(take(data, 1)[0]["id"]) == BATCH


def test_images_unlike_their_masks_are_listed_before_any_work(data, tmp_path):
    for name, size in (("good", (40, 50)), ("odd", (30, 50)), ("none", (0, 0))):
        save(tmp_path / f"s/images/{name}.png", np.zeros((40, 50, 3), np.uint8))
        if name != "none":
            save(tmp_path / f"s/masks/{name}.png", np.full(size, 255, np.uint8))
    (tmp_path / "s/masks/none.png").write_bytes(b"no image")
    data.static, data.video_share = (str(tmp_path / "s"),), ((0, 0.0),)
    with pytest.raises(
        InputError, match=r"^2 of 3 .*odd\.png is 50x40 but .*odd\.png is 50x30.*none\.png cannot"
    ):
        open_examples(data, seed=0, global_batch=1)


def test_a_bad_file_is_named_when_its_turn_comes(data, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    save(tmp_path / "s/images/torn.jpg", noise)
    save(tmp_path / "s/masks/torn.png", np.full((200, 300), 255, np.uint8))
    torn = tmp_path / "s/images/torn.jpg"
    torn.write_bytes(torn.read_bytes()[:-2000])
    data.static, data.video_share = (str(tmp_path / "s"),), ((0, 0.0),)
    with pytest.raises(InputError, match=r"^image .*torn\.jpg cannot be read.*replace the file$"):
        take(data, 1)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"crop": 100}, {}, r"data\.crop=100: expected a positive multiple of 16"),
        ({"static": ("nowhere",)}, {}, r"source 'nowhere': no folder .*nowhere"),
        ({"loader": "threads"}, {}, "data.loader='threads': expected one of tf.data, processes"),
        ({"workers": -1}, {}, r"data\.workers=-1: expected 0 or more"),
        ({"prefetch": -1}, {}, r"data\.prefetch=-1: expected 0 or more"),
        ({}, {"host_count": 3}, "a batch of 4 on 3 hosts"),
        ({}, {"host_index": 2, "host_count": 2}, "host 2 of 2: expected hosts counted from 0"),
        ({}, {"host_count": 0}, "host 0 of 0"),
        ({}, {"start_step": -1}, "start step -1: expected 0 or more"),
        ({}, {"seed": -1}, "seed=-1: expected 0 or more"),
    ],
)
def test_bad_settings_are_refused_before_tensorflow_starts(
    data, change, options, message, monkeypatch
):
    monkeypatch.delattr("data_pipeline.triplets.tf_stream.make_dataset")
    data.update(change)
    with pytest.raises(InputError, match=message):
        open_stream(data, **{"seed": 0, "global_batch": BATCH} | options)


def test_a_shard_cut_short_is_refused_before_tensorflow_starts(data, tmp_path, monkeypatch):
    (shard,) = write_records(tmp_path, datasets.PAIR, [{"name": "a", "image": b"", "mask": b""}])
    shard.write_bytes(shard.read_bytes()[:-1])
    data.update(static=(str(tmp_path),))
    monkeypatch.delattr("data_pipeline.triplets.tf_stream.make_dataset")
    with pytest.raises(InputError, match=f"shard {shard}: expected 1 records, found 0"):
        open_stream(data, seed=0, global_batch=BATCH)


def test_show_pictures_the_very_examples_of_a_step(root, tmp_path):
    output = tmp_path / "sheet.png"
    options = {
        "config": "configs/small.py",
        "config.data.root": root,
        "config.data.static": "('one', 'two')",
        "config.data.videos": "('davis:train',)",
        "config.data.crop": 32,
        "config.batch_size": BATCH,
        "step": 2,
        "count": 3,
        "output": output,
    }
    command = [sys.executable, "-m", "data_pipeline.show"]
    command += [f"--{name}={value}" for name, value in options.items()]
    printed = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout
    config = get_config()
    config.data.update(root=str(root), static=("one", "two"), videos=("davis:train",), crop=32)
    examples = open_examples(config.data, seed=config.seed, global_batch=BATCH)
    names = [examples(k)[0] for k in range(2 * BATCH, 2 * BATCH + 3)]
    assert printed.splitlines() == [*names, f"wrote {output}"]
    with Image.open(output) as sheet:
        assert sheet.height > sheet.width > 3 * 100


def test_show_refuses_bad_input_in_one_line(root):
    command = [sys.executable, "-m", "data_pipeline.show", "--config=configs/small.py"]
    command += [f"--config.data.root={root}", "--output=picture.jpeg"]
    found = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert complaints(found) == (
        "error: --output=picture.jpeg: expected a .png in a folder that exists\n"
    )
