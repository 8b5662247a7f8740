"""A build stops at bad files or leaves them out; an interrupted build resumes."""

import functools

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipeline import build as command
from data_pipeline.builders import shards
from data_pipeline.builders.base import PairBuilder
from data_pipeline.builders.items import Item, Listing, Record, SkippedByDesign, index_png
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, save, square
from tests.support.reading import built, decoded, records, summary

made = []  # names of the items made


class Letters(PairBuilder):
    """Each file in manual_dir is an item, and its text says what happens when it is made."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = LICENSE = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Write files."
    SHARD_BYTES = 8  # of files of 4: two items a shard

    def listings(self, manual_dir):
        paths = sorted(manual_dir.glob("*.txt"))
        items = [Item(p.stem, functools.partial(make_letter, p), (p,)) for p in paths]
        faults = [f"{p.name}: no use" for p in sorted(manual_dir.glob("*.bad"))]
        return {"train": Listing(tuple(items), tuple(faults), {"by name": 2})}


def make_letter(path):
    made.append(path.stem)
    text = path.read_text()
    if text == "STOP":
        path.write_text("text")
        raise KeyboardInterrupt
    if text == "bad!":
        raise InputError(f"{path.name} is bad")
    if text == "once" and made.count(path.stem) == 1:
        raise InputError("a disk that comes and goes")
    if text == "none":
        raise SkippedByDesign("letters that say none")
    if text == "bug!":
        raise ZeroDivisionError
    mask = np.full((2, 3), ord(text[0]) % 100, np.uint8)
    features = {"name": path.stem, "image": index_png(mask), "mask": index_png(mask)}
    return Record(features, {"objects": 3, "repaired": int(text == "mend")})


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    made.clear()
    monkeypatch.delenv("QMRA_SKIP_BAD", raising=False)
    monkeypatch.setenv("QMRA_BUILD_WORKERS", "1")  # so that an interrupt comes in order


@pytest.fixture
def letters(tmp_path):
    """Six files, a to f; three shards."""
    folder = tmp_path / "letters"
    folder.mkdir()
    for letter in "abcdef":
        (folder / f"{letter}.txt").write_text("text")
    return folder


@pytest.fixture
def build(letters, tmp_path):
    """Builds the dataset of letters in tmp_path/data."""
    return lambda **options: built(Letters, letters, tmp_path / "data", **options)


def datasets_in(folder):
    return sorted(path.parent for path in folder.rglob("dataset_info.json"))


def names(folder):
    return [record["name"][0].decode() for record in records(folder)]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_records_are_in_order_and_read_by_offset_and_by_tfds(letters, build, monkeypatch, workers):
    monkeypatch.setenv("QMRA_BUILD_WORKERS", workers)
    (letters / "c.txt").write_text("mend")
    folder = build()
    assert names(folder) == list("abcdef")
    assert len(list(folder.glob("*.tfrecord-?????-of-00003"))) == 3
    by_name = {record["name"]: record["mask"] for record in decoded(folder)}
    assert sorted(by_name) == [letter.encode() for letter in "abcdef"]
    assert (by_name[b"c"] == ord("m") % 100).all()
    assert by_name[b"c"].shape == (2, 3, 1)
    assert summary(folder) == {
        "records": 6,
        "counts": {"objects": 18, "repaired": 1},
        "skipped": {"by name": 2},
        "faults": [],
    }


def test_faults_stop_a_build_with_the_first_20_and_their_number(letters, build, tmp_path):
    for index in range(30):
        (letters / f"{index:02}.txt").write_text("bad!")
    with pytest.raises(InputError) as error:
        build()
    head, *lines = str(error.value).splitlines()
    assert head.startswith("letters/1.0.0: 30 faults")
    assert "--skip_bad" in head
    shown = [f"{index:02}.txt is bad" for index in range(20)]
    assert [line.strip() for line in lines] == [*shown, "and 10 more"]
    assert not (tmp_path / "data/letters/1.0.0").exists()


def test_faults_known_by_name_stop_a_build_before_anything_is_made(letters, build, tmp_path):
    (letters / "x.bad").touch()
    with pytest.raises(InputError, match=r"(?s)1 fault.*Only names .*x\.bad: no use"):
        build()
    assert made == []
    assert datasets_in(tmp_path) == []


def test_skip_bad_leaves_bad_items_out_and_lists_them(letters, build, monkeypatch, capsys):
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    (letters / "x.bad").touch()
    for letter in "acd":  # c and d are a whole shard
        (letters / f"{letter}.txt").write_text("bad!")
    folder = build()
    assert names(folder) == list("bef")
    assert len(decoded(folder)) == 3
    assert len(list(folder.glob("*.tfrecord-?????-of-00002"))) == 2
    faults = ["x.bad: no use", "a.txt is bad", "c.txt is bad", "d.txt is bad"]
    assert summary(folder)["faults"] == faults
    printed = capsys.readouterr().out
    assert all(fault in printed for fault in faults)


def test_a_split_without_records_is_refused(letters, build, monkeypatch):
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    for path in letters.iterdir():
        path.write_text("bad!")
    with pytest.raises(InputError, match="no images for train"):
        build()


def test_items_skipped_by_design_are_counted_and_no_faults(letters, build, capsys):
    for letter in "abf":
        (letters / f"{letter}.txt").write_text("none")
    folder = build()
    assert names(folder) == list("cde")
    assert summary(folder)["skipped"] == {"by name": 2, "letters that say none": 3}
    assert "3 letters that say none" in capsys.readouterr().out


@pytest.fixture
def interrupted(letters, build, tmp_path):
    """A build that was stopped in the last of its three shards."""
    (letters / "e.txt").write_text("STOP")
    with pytest.raises(KeyboardInterrupt):
        build()
    assert datasets_in(tmp_path) == []
    made.clear()
    return tmp_path / "data"


def test_an_interrupted_build_resumes_after_its_finished_shards(interrupted, build, capsys):
    folder = build()
    assert made == ["e", "f"]
    assert "2 of 3 shards" in capsys.readouterr().out
    assert names(folder) == list("abcdef")
    assert len(decoded(folder)) == 6
    left = [p.name for p in folder.parent.iterdir() if not p.name.startswith("incomplete.")]
    assert left == ["1.0.0"]


def test_a_shard_of_changed_files_is_made_again(letters, interrupted, build):
    (letters / "b.txt").write_text("next")  # of the same size
    folder = build()
    assert made == ["a", "b", "e", "f"]
    assert decoded(folder)[1]["mask"][0, 0, 0] == ord("n") % 100


def test_an_unfinished_or_damaged_shard_is_made_again(interrupted, build):
    staged = sorted((interrupted / "letters/.1.0.0.partial").glob("*.tfrecord"))
    assert len(staged) == 3  # the last one was begun
    for path in staged:
        path.write_bytes(path.read_bytes()[:-3])
    build()
    assert made == list("abcdef")


def test_after_a_stop_skip_bad_reuses_all_shards_and_a_repair_makes_the_rest(
    letters, build, tmp_path, monkeypatch
):
    (letters / "d.txt").write_text("bad!")
    with pytest.raises(InputError, match="1 fault"):
        build()
    with pytest.raises(InputError, match="1 fault"):
        built(Letters, letters, tmp_path / "skipped")
    made.clear()
    with monkeypatch.context() as skipping:
        skipping.setenv("QMRA_SKIP_BAD", "1")
        assert names(built(Letters, letters, tmp_path / "skipped")) == list("abcef")
    assert made == []
    (letters / "d.txt").write_text("text")
    assert names(build()) == list("abcdef")
    assert made == ["c", "d"]


def test_a_faulty_item_is_tried_again_as_the_fault_may_be_gone(letters, build):
    (letters / "d.txt").write_text("once")
    with pytest.raises(InputError, match="comes and goes"):
        build()
    assert names(build()) == list("abcdef")


def test_an_error_that_is_no_fault_of_a_file_is_not_hidden(letters, build, monkeypatch):
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    (letters / "b.txt").write_text("bug!")
    with pytest.raises(ZeroDivisionError):
        build()


def test_options_of_tfds_apply(letters, build, tmp_path):
    assert len(list(build(num_shards=2).glob("*.tfrecord-?????-of-00002"))) == 2
    folder = built(Letters, letters, tmp_path / "b", max_examples_per_split=2)
    assert names(folder) == ["a", "b"]
    assert summary(folder)["skipped"]["beyond --max_examples_per_split"] == 4


@pytest.mark.parametrize("workers", ["0", "-1", "many"])
def test_workers_must_be_a_positive_number(build, monkeypatch, workers):
    monkeypatch.setenv("QMRA_BUILD_WORKERS", workers)
    with pytest.raises(InputError, match=f"workers '{workers}'"):
        build()


def test_a_missing_manual_dir_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        built(Letters, tmp_path / "nowhere", tmp_path / "data")


def planned(folder, sizes, target=100, count=0, shared=()):
    """The shards of items of one file each, and the items' keys in each."""
    items = []
    for k, size in enumerate(sizes):
        path = folder / f"{k:03}"
        if not path.exists():
            path.write_bytes(bytes(size))
        items.append(Item(str(k), make_letter, (path, *shared)))
    found = shards.plan("train", items, folder=folder, maker="x", target=target, count=count)
    return found, [[item.key for item in shard.items] for shard in found]


def test_shards_are_of_about_the_same_size_and_the_same_each_time(tmp_path):
    sizes = [50, 50, 95, 20, 10, 170]
    found, keys = planned(tmp_path, sizes)
    assert keys == [["0"], ["1", "2"], ["3", "4"], ["5"]]
    assert [s.path for s in planned(tmp_path, sizes)[0]] == [s.path for s in found]
    assert len(planned(tmp_path, sizes, target=1000)[0]) == 1
    assert len(planned(tmp_path, sizes, count=2)[0]) == 2


def test_a_file_shared_by_all_items_does_not_add_shards_but_makes_them_stale(tmp_path):
    shared = tmp_path / "all.json"
    paths = set()
    for size in (1000, 1001):
        shared.write_bytes(bytes(size))
        (shard,), _ = planned(tmp_path, [10] * 4, shared=(shared,))
        paths.add(shard.path)
    assert len(paths) == 2


def test_many_small_items_make_a_few_shards_to_read_in_parallel(tmp_path):
    _, keys = planned(tmp_path, [1] * 300, target=1 << 20)
    assert [len(shard) for shard in keys] == [37, 38] * 4
    assert len(planned(tmp_path, [1] * 40, target=1 << 20)[0]) == 1


# The command


@pytest.fixture
def run(capsys):
    """Runs `python -m data_pipeline.build`: exit status, standard output and error."""

    def run(*arguments):
        status = 0
        try:
            command.main(list(map(str, arguments)))
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def pictures(tmp_path):
    """A folder for `image_masks`: two images of one object."""
    for stem in ("one", "two"):
        add_pair(tmp_path / "pictures", stem, suffix=".png")
    return tmp_path / "pictures"


@pytest.fixture
def arguments(pictures, tmp_path):
    """The command that builds `pictures` in `data`."""
    return ["image_masks", f"--manual_dir={pictures}", f"--data_dir={tmp_path / 'data'}"]


def test_the_command_lists_every_builder_with_a_description(run):
    status, out, _ = run("--list")
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert len(lines) == 12
    assert lines["ecssd"].startswith("ECSSD: 1,000 images")


def test_the_command_keeps_an_existing_dataset_and_replaces_it_on_request(
    arguments, pictures, tmp_path, run
):
    folder = tmp_path / "data/image_masks/1.0.0"
    assert run(*arguments)[0] == 0
    assert summary(folder)["records"] == 2

    for name in ("images", "masks"):
        (pictures / name / "one.png").unlink()
    status, out, _ = run(*arguments)
    assert status == 0
    assert f"{folder} exists and is kept" in out

    save(pictures / "masks/two.png", square(0))
    status, _, error = run(*arguments, "--overwrite")
    assert status == 2
    assert "two.png is empty" in error
    assert summary(folder)["records"] == 2  # the old one

    save(pictures / "masks/two.png", square())
    assert run(*arguments, "--overwrite", "--workers=2")[0] == 0
    assert summary(folder)["records"] == 1
    assert list(folder.parents[1].rglob("*.0.0")) == datasets_in(tmp_path) == [folder]

    folder.rename(folder.with_name(".1.0.0.replaced"))  # as if killed while replacing
    assert f"{folder} exists and is kept" in run(*arguments)[1]


def test_the_command_s_skip_bad_leaves_bad_files_out(
    arguments, pictures, tmp_path, run, monkeypatch
):
    monkeypatch.setenv("QMRA_SKIP_BAD", "0")  # so that it is restored after the test
    (pictures / "masks/one.png").unlink()
    status, _, error = run(*arguments)
    assert status == 2
    assert error.startswith("error: image_masks/1.0.0: 1 fault")
    assert run(*arguments, "--skip_bad")[0] == 0
    assert len(summary(tmp_path / "data/image_masks/1.0.0")["faults"]) == 1


def test_an_interrupted_command_ends_with_status_130(arguments, run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "build", interrupt)
    status, _, error = run(*arguments)
    assert status == 130
    assert error.startswith("interrupted: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--manual_dir=."], "dataset nonsense: "),
        (["duts/small", "--manual_dir=."], "dataset duts/small: expected duts"),
        ([], "expected NAME --manual_dir=DIR"),
        (["duts"], "dataset duts: expected --manual_dir=DIR. Unpack DUTS-TR.zip"),
        (["duts", "--manual_dir=/no/where"], "manual_dir /no/where"),
        (["duts", "--manual_dir=.", "--num_shards=0"], "--num_shards=0"),
    ],
)
def test_wrong_arguments_are_refused_with_status_2(run, arguments, message):
    status, _, error = run(*arguments)
    assert status == 2
    assert error.startswith(f"error: {message}")
