"""The stream is a function of (seed, step), the same for any number of hosts."""

import contextlib
import itertools

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from data_pipeline.datasets.records import Records
from data_pipeline.triplets.examples import open_examples
from data_pipeline.triplets.stream import open_stream
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, save, square
from tests.support.reading import build_as

BATCH = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten pairs in two folders and two videos of six frames; and the same as records in tfds."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(10):
        folder = root / ("one" if i < 6 else "two")
        add_pair(folder, str(i), suffix=".png")
        save(folder / f"images/{i}.png", rng.integers(0, 256, (32, 40, 3), dtype=np.uint8))
    for name in ("bear", "swan"):
        add_video(root / "davis", name, [square(left=5 + k) for k in range(6)], "train")
    for folder in ("one", "two"):
        build_as(root / f"tfds/{folder}/1.0.0", "image_masks", root / folder, num_shards=2)
    build_as(root / "tfds/davis/1.0.0", "vos_folder", root / "davis", num_shards=2)
    return root


@pytest.fixture
def data(root) -> ConfigDict:
    data = common.get_config().data
    data.update(root=str(root), static=("one", "two"), videos=("davis:train",), workers=2, crop=32)
    data.update(video_share=((0, 0.5),), max_gap=((0, 1), (5, 2)), colour_jitter=0.2)
    return data


@pytest.fixture
def built(data) -> ConfigDict:
    """The same datasets as TFRecords."""
    other = data.copy_and_resolve_references()
    other.update(static=("tfds/one", "tfds/two"), videos=("tfds/davis",))
    return other


def take(data, steps, **kwargs):
    stream = open_stream(data, **({"seed": 3, "global_batch": BATCH} | kwargs))
    with contextlib.closing(stream):
        return list(itertools.islice(stream, steps))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_batches_contain_the_numbered_examples_in_order(data):
    examples = open_examples(data, seed=3, global_batch=BATCH)
    kinds = {"images": np.uint8, "masks": np.uint8, "boxes": np.int32}
    for step, batch in enumerate(take(data, 3)):
        for i in range(BATCH):
            name, triplet = examples(step * BATCH + i)
            assert batch["id"][i].decode() == name
            for field, value in triplet._asdict().items():
                assert batch[field].dtype == kinds[field]
                np.testing.assert_array_equal(batch[field][i], value)


def test_a_stream_that_starts_at_step_4_continues_as_one_that_ran_there(data):
    for ran, resumed in zip(take(data, 6)[4:], take(data, 2, start_step=4), strict=True):
        assert_same(ran, resumed)


@pytest.mark.parametrize("step", [0, 100_000, 10**9])
def test_starting_late_reads_no_more_records(step, built, monkeypatch):
    read = []

    def counted(records, i, original=Records.__getitem__):
        read.append(i)
        return original(records, i)

    monkeypatch.setattr(Records, "__getitem__", counted)
    (batch,) = take(built, 1, start_step=step)
    assert batch["boxes"][..., 2:].min() > 0
    ahead = built.prefetch + 1  # in batches; the workers hold more
    assert BATCH <= len(read) <= (1 + ahead) * BATCH + built.workers


def test_records_give_the_same_triplets_as_raw_files(data, built):
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


def test_hosts_share_the_batch_of_one_host(data):
    whole = take(data, 2, start_step=4)
    parts = [take(data, 2, start_step=4, host_index=h, host_count=4) for h in range(4)]
    for batch, *split in zip(whole, *parts, strict=True):
        joined = {name: np.concatenate([part[name] for part in split]) for name in batch}
        assert_same(batch, joined)


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"loader": "threads"}, {}, r"data\.loader='threads'.*tf\.data, processes"),
        ({"workers": -1}, {}, r"data\.workers=-1"),
        ({"prefetch": -1}, {}, r"data\.prefetch=-1"),
        ({}, {"host_count": 3}, "a batch of 4 on 3 hosts"),
        ({}, {"host_index": 2, "host_count": 2}, "host 2 of 2"),
        ({}, {"host_count": 0}, "host 0 of 0"),
        ({}, {"start_step": -1}, "start step -1"),
        ({}, {"seed": -1}, "seed=-1"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(data, change, options, named, monkeypatch):
    monkeypatch.delattr("data_pipeline.triplets.tf_stream.make_dataset")
    data.update(change)
    with pytest.raises(InputError, match=named):
        open_stream(data, **{"seed": 0, "global_batch": BATCH} | options)
