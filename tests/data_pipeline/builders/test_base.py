"""A build stops at bad files or leaves them out and tells; interrupted, it goes on where it was."""

import functools
import io
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipeline import build as command
from data_pipeline.builders import shards, writing
from data_pipeline.builders.base import PairBuilder
from data_pipeline.builders.items import ByDesign, Item, Listing, Record, index_png
from qmra_jax.errors import InputError
from tests.support.reading import built, decoded, records, summary

made = []  # names of the items made, in any order


class Letters(PairBuilder):
    """Each file in manual_dir is an item, and its text what happens when the item is made."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = HOMEPAGE = LICENSE = CITATION = ""
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
        raise ByDesign("letters that say none")
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


def datasets_in(folder):
    return sorted(path.parent for path in folder.rglob("dataset_info.json"))


def names(folder):
    return [record["name"][0].decode() for record in records(folder, "train")]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_records_come_in_the_listing_s_order_and_are_read_by_offset_and_by_tfds(
    letters, tmp_path, monkeypatch, workers
):
    monkeypatch.setenv("QMRA_BUILD_WORKERS", workers)
    (letters / "c.txt").write_text("mend")
    folder = built(Letters, letters, tmp_path / "data")
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


def test_faults_stop_a_build_with_the_first_20_and_their_number(letters, tmp_path):
    for index in range(30):
        (letters / f"{index:02}.txt").write_text("bad!")
    with pytest.raises(InputError) as error:
        built(Letters, letters, tmp_path / "data")
    told = str(error.value).splitlines()
    assert told[0].startswith("letters/1.0.0: 30 faults")
    assert "--skip_bad" in told[0]
    assert "what was made is kept" in told[0]
    shown = [f"{index:02}.txt is bad" for index in range(20)]
    assert [line.strip() for line in told[1:]] == [*shown, "and 10 more"]
    assert not (tmp_path / "data/letters/1.0.0").exists()


def test_faults_known_by_name_stop_a_build_before_it_makes_anything(letters, tmp_path):
    (letters / "x.bad").touch()
    with pytest.raises(InputError, match=r"(?s)1 fault.*not been checked yet.*x\.bad: no use"):
        built(Letters, letters, tmp_path / "data")
    assert made == []
    assert datasets_in(tmp_path) == []


def test_skip_bad_leaves_bad_items_out_and_lists_them(letters, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    (letters / "x.bad").touch()
    for letter in "acd":  # c and d are a whole shard
        (letters / f"{letter}.txt").write_text("bad!")
    folder = built(Letters, letters, tmp_path / "data")
    assert names(folder) == list("bef")
    assert len(decoded(folder)) == 3
    assert len(list(folder.glob("*.tfrecord-?????-of-00002"))) == 2
    faults = ["x.bad: no use", "a.txt is bad", "c.txt is bad", "d.txt is bad"]
    assert summary(folder)["faults"] == faults
    printed = capsys.readouterr().out
    assert "left out as bad: 4" in printed
    assert "c.txt is bad" in printed


def test_a_split_of_which_nothing_is_left_is_refused(letters, tmp_path, monkeypatch):
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    for path in letters.iterdir():
        path.write_text("bad!")
    with pytest.raises(InputError, match="no images for train"):
        built(Letters, letters, tmp_path / "data")


def test_what_a_dataset_leaves_out_by_design_is_told_and_no_fault(letters, tmp_path, capsys):
    for letter in "abf":
        (letters / f"{letter}.txt").write_text("none")
    folder = built(Letters, letters, tmp_path / "data")
    assert names(folder) == list("cde")
    assert summary(folder)["skipped"] == {"by name": 2, "letters that say none": 3}
    assert "left out by design: 3 letters that say none" in capsys.readouterr().out


@pytest.fixture
def interrupted(letters, tmp_path):
    """Where a build was stopped in the last of its three shards."""
    (letters / "e.txt").write_text("STOP")
    with pytest.raises(KeyboardInterrupt):
        built(Letters, letters, tmp_path / "data")
    assert datasets_in(tmp_path) == []
    made.clear()
    return tmp_path / "data"


def test_an_interrupted_build_goes_on_after_the_shards_it_has(letters, interrupted, capsys):
    folder = built(Letters, letters, interrupted)
    assert made == ["e", "f"]
    assert "2 of 3 shards are there from before" in capsys.readouterr().out
    assert names(folder) == list("abcdef")
    assert len(decoded(folder)) == 6
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]  # nothing is left


def test_a_shard_of_changed_files_is_made_again(letters, interrupted):
    (letters / "b.txt").write_text("next")  # of the same size
    folder = built(Letters, letters, interrupted)
    assert made == ["a", "b", "e", "f"]
    assert decoded(folder)[1]["mask"][0, 0, 0] == ord("n") % 100


def test_an_unfinished_or_damaged_shard_is_made_again(letters, interrupted):
    staged = sorted((interrupted / "letters/.1.0.0.partial").glob("*.tfrecord"))
    assert len(staged) == 3  # the last one was begun
    for path in staged:
        path.write_bytes(path.read_bytes()[:-3])
    built(Letters, letters, interrupted)
    assert made == list("abcdef")


def test_what_tfds_left_of_a_killed_build_is_removed_and_told(letters, tmp_path, capsys):
    for name in ("incomplete.ABC123_1.0.0", "incomplete.ABC123_2.0.0"):
        (tmp_path / "data/letters" / name).mkdir(parents=True)
        (tmp_path / "data/letters" / name / "letters-train.tfrecord-00000-of-00003").touch()
    folder = built(Letters, letters, tmp_path / "data")
    left = sorted(path.name for path in folder.parent.iterdir())
    assert left == ["1.0.0", "incomplete.ABC123_2.0.0"]  # another version's may be at work
    assert "incomplete.ABC123_1.0.0, of a build that was killed, is removed" in (
        capsys.readouterr().out
    )


def test_after_a_stop_skip_bad_uses_what_was_made_and_a_repair_makes_the_rest(
    letters, tmp_path, monkeypatch
):
    (letters / "d.txt").write_text("bad!")
    with pytest.raises(InputError, match="1 fault"):
        built(Letters, letters, tmp_path / "skipped")
    with pytest.raises(InputError, match="1 fault"):
        built(Letters, letters, tmp_path / "mended")

    made.clear()
    with monkeypatch.context() as skipping:
        skipping.setenv("QMRA_SKIP_BAD", "1")
        assert names(built(Letters, letters, tmp_path / "skipped")) == list("abcef")
    assert made == []

    (letters / "d.txt").write_text("text")
    assert names(built(Letters, letters, tmp_path / "mended")) == list("abcdef")
    assert made == ["c", "d"]


def test_a_fault_is_looked_at_again_for_it_may_have_gone(letters, tmp_path):
    (letters / "d.txt").write_text("once")
    with pytest.raises(InputError, match="comes and goes"):
        built(Letters, letters, tmp_path / "data")
    assert names(built(Letters, letters, tmp_path / "data")) == list("abcdef")


def test_an_error_that_is_no_fault_of_a_file_is_not_hidden(letters, tmp_path, monkeypatch):
    monkeypatch.setenv("QMRA_SKIP_BAD", "1")
    (letters / "b.txt").write_text("bug!")
    with pytest.raises(ZeroDivisionError):
        built(Letters, letters, tmp_path / "data")


def test_tfds_s_options_count(letters, tmp_path):
    folder = built(Letters, letters, tmp_path / "a", num_shards=2)
    assert len(list(folder.glob("*.tfrecord-?????-of-00002"))) == 2
    folder = built(Letters, letters, tmp_path / "b", max_examples_per_split=2)
    assert names(folder) == ["a", "b"]
    assert summary(folder)["skipped"]["beyond --max_examples_per_split"] == 4


@pytest.mark.parametrize("workers", ["0", "-1", "many"])
def test_workers_must_be_a_number_above_0(letters, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("QMRA_BUILD_WORKERS", workers)
    with pytest.raises(InputError, match=f"workers '{workers}'"):
        built(Letters, letters, tmp_path / "data")


def test_an_absent_or_empty_manual_dir_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="does not exist or is empty"):
        built(Letters, tmp_path / "nowhere", tmp_path / "data")


def planned(folder, sizes, target=100, count=0, shared=()):
    """The shards of items of one file each, by the items' keys."""
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


def test_a_file_that_all_items_share_does_not_make_more_shards_but_makes_them_stale(tmp_path):
    shared = tmp_path / "all.json"
    paths = set()
    for size in (1000, 1001):
        shared.write_bytes(bytes(size))
        (shard,), _ = planned(tmp_path, [10] * 4, shared=(shared,))
        paths.add(shard.path)
    assert len(paths) == 2


def test_many_small_items_make_a_few_shards_to_share_out(tmp_path):
    _, keys = planned(tmp_path, [1] * 300, target=1 << 20)
    assert [len(shard) for shard in keys] == [37, 38] * 4
    assert len(planned(tmp_path, [1] * 40, target=1 << 20)[0]) == 1


def test_progress_in_a_log_file_is_lines_not_redrawn():
    stream = io.StringIO()
    lines = writing._Lines(stream)
    lines.write("\r 10%|#   | 1/10")
    lines.write("\n")
    assert stream.getvalue() == "10%|#   | 1/10\n"


# The command


def run(capsys, *arguments):
    """Exit status, standard output and error of `python -m data_pipeline.build`."""
    try:
        command.main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


@pytest.fixture
def pictures(tmp_path):
    """A folder for `image_masks`: two images of one object."""
    folder = tmp_path / "pictures"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for stem in ("one", "two"):
        (folder / "images" / f"{stem}.png").write_bytes(index_png(np.full((4, 6), 9, np.uint8)))
        (folder / "masks" / f"{stem}.png").write_bytes(index_png(np.full((4, 6), 1, np.uint8)))
    return folder


def test_the_command_lists_every_builder_with_a_line_about_it(capsys):
    status, out, _ = run(capsys, "--list")
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert len(lines) == 12
    assert lines["ecssd"].startswith("ECSSD: 1,000 images")


@pytest.fixture
def arguments(pictures, tmp_path):
    """The command that builds `pictures` in `data`."""
    return ["image_masks", f"--manual_dir={pictures}", f"--data_dir={tmp_path / 'data'}"]


def test_the_command_builds_keeps_what_exists_and_replaces_it_when_told(
    arguments, pictures, tmp_path, capsys
):
    folder = tmp_path / "data/image_masks/1.0.0"
    assert run(capsys, *arguments)[0] == 0
    assert summary(folder)["records"] == 2

    for name in ("images", "masks"):
        (pictures / name / "one.png").unlink()
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert f"{folder} exists and is kept" in out

    (pictures / "masks/two.png").write_bytes(index_png(np.zeros((4, 6), np.uint8)))
    status, _, error = run(capsys, *arguments, "--overwrite")
    assert status == 2
    assert "two.png is empty" in error
    assert summary(folder)["records"] == 2  # the old one is back

    (pictures / "masks/two.png").write_bytes(index_png(np.ones((4, 6), np.uint8)))
    assert run(capsys, *arguments, "--overwrite", "--workers=2")[0] == 0
    assert summary(folder)["records"] == 1
    assert datasets_in(tmp_path) == [folder]


def test_a_dataset_that_a_killed_build_moved_away_is_put_back(arguments, tmp_path, capsys):
    folder = tmp_path / "data/image_masks/1.0.0"
    aside = folder.with_name(".1.0.0.replaced")
    assert run(capsys, *arguments)[0] == 0
    folder.rename(aside)  # as a build with --overwrite leaves it when killed
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert f"{folder}, moved away by a build that was killed, is back" in out
    assert f"{folder} exists and is kept" in out

    shutil.copytree(folder, aside)  # killed once the new dataset was there
    assert run(capsys, *arguments, "--overwrite")[0] == 0
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_the_command_s_skip_bad_leaves_bad_files_out(
    arguments, pictures, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("QMRA_SKIP_BAD", "0")  # put back after the test, which sets it
    (pictures / "masks/one.png").unlink()
    status, _, error = run(capsys, *arguments)
    assert status == 2
    assert error.startswith("error: image_masks/1.0.0: 1 fault, so no dataset was written")
    assert run(capsys, *arguments, "--skip_bad")[0] == 0
    assert len(summary(tmp_path / "data/image_masks/1.0.0")["faults"]) == 1


def test_the_command_says_that_an_interrupted_build_can_go_on(pictures, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "build", interrupt)
    status, _, error = run(capsys, "image_masks", f"--manual_dir={pictures}")
    assert status == 130
    assert error == "interrupted: the same command goes on from here\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--manual_dir=."], "dataset nonsense: no builder of this name"),
        (["duts/small", "--manual_dir=."], "dataset duts/small: expected duts"),
        ([], "expected NAME --manual_dir=DIR"),
        (["duts"], "dataset duts: expected --manual_dir=DIR. Unpack DUTS-TR.zip"),
        (["duts", "--manual_dir=/no/where"], "manual_dir /no/where: no such folder"),
        (["duts", "--manual_dir=.", "--num_shards=0"], "--num_shards=0: expected 1 or more"),
    ],
)
def test_the_command_refuses_in_one_message_and_status_2(capsys, arguments, message):
    status, _, error = run(capsys, *arguments)
    assert status == 2
    assert error.startswith(f"error: {message}")
