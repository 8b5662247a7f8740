"""Readers and datasets of one's own, in a module outside the package."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import qmra_jax
from data_pipeline.triplets import entries
from data_pipeline.triplets.entries import Entry
from qmra_jax.errors import InputError
from qmra_jax.network.memory_read import READERS
from qmra_jax.plugins import load_plugins
from qmra_jax.weights.state_dict_files import read_metadata
from tests.support.tiny import TINY

ROOT = Path(__file__).parents[1]
PLUGIN = '''
from data_pipeline.synthetic.videos import SyntheticVideos
from data_pipeline.triplets.entries import CLIPS
from qmra_jax.network.memory_read import READERS


def first(query_key, memory_key, memory_value, valid=None, *, gain: float = 1.0):
    """The value of the first memory frame, in place."""
    return gain * memory_value[:, 0]


READERS["first"] = first
CLIPS["four_clips"] = lambda entry: SyntheticVideos("tiny")
'''
CONFIG = TINY | {"reader": "first:gain=0.5"}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A plugin in the current folder; what it adds is removed again."""
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "my_plugin"
    READERS.pop("first", None)
    entries.CLIPS.pop("four_clips", None)
    sys.modules.pop("my_plugin", None)


def test_a_plugin_adds_a_reader_with_options_and_a_dataset(plugin):
    with pytest.raises(InputError, match="first"):
        qmra_jax.build_model(CONFIG)
    load_plugins([plugin])
    assert qmra_jax.build_model(CONFIG).reader == "first:gain=0.5"
    with pytest.raises(InputError, match="gian"):
        qmra_jax.build_model(CONFIG | {"reader": "first:gian=2"})
    entry = Entry.parse("four_clips", "data.videos")
    assert len(entries.open_clips(entry, "")) == 4
    with pytest.raises(InputError, match=r"four_clips.*data\.videos"):
        entries.open_pairs(entry, "")


def test_an_installed_plugin_needs_no_option(plugin, monkeypatch):
    point = SimpleNamespace(module=plugin)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    load_plugins()
    assert "first" in READERS


def test_a_weights_file_names_the_plugin_that_it_needs(plugin, tiny_variables):
    load_plugins([plugin])
    qmra_jax.save("own.safetensors", tiny_variables, CONFIG)
    assert read_metadata("own.safetensors")["plugins"] == '["my_plugin"]'
    assert qmra_jax.load("own.safetensors")[0].reader == CONFIG["reader"]
    del sys.modules[plugin], READERS["first"]
    with pytest.raises(InputError, match=r"own\.safetensors.*--plugin my_plugin"):
        qmra_jax.load("own.safetensors")


@pytest.mark.parametrize(
    ("source", "named"),
    [(None, "my_plugin.*not found"), ("import no_such", "no_such"), ("1 / 0", "ZeroDivision")],
)
def test_a_plugin_that_cannot_be_imported_is_refused(plugin, source, named):
    path = Path("my_plugin.py")
    path.unlink() if source is None else path.write_text(source)
    with pytest.raises(InputError, match=named):
        load_plugins([plugin])


@pytest.mark.slow
def test_a_plugin_goes_through_training_export_evaluation_and_segmentation(plugin, tmp_path):
    def run(*arguments, status=0):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        return done.stderr.strip()

    config = ("--config=" + str(ROOT / "tests/support/tiny_config.py"), "--config.steps=2")
    config += ("--config.model.reader=first", "--config.data.videos=('four_clips',)")
    train = (ROOT / "train.py", *config, "--workdir=run", "--config.cpu_devices=0")
    assert "first" in run(*train, status=2)
    run(*train, "--plugin=my_plugin")
    export = ("weights", "export", "run", "own.safetensors")
    assert "--plugin my_plugin" in run("-m", "qmra_jax", *export, status=2)
    run("-m", "qmra_jax", "--plugin", "my_plugin", *export)
    run("-m", "data_pipeline.synthetic", "--output=videos", "--count=1", "--height=64")
    evaluate = (ROOT / "evaluate.py", "--weights=own.safetensors", "--dataset=folder")
    evaluate += ("--data_dir=videos", "--output=results")
    assert "--plugin my_plugin" in run(*evaluate, status=2)
    run(*evaluate, "--plugin=my_plugin")
    (video,) = (tmp_path / "videos/JPEGImages/480p").iterdir()
    segment = ("segment", video, "--box", "8,8,20,20", "--weights", "own.safetensors")
    run("-m", "qmra_jax", "--plugin", "my_plugin", *segment, "--output", "out")
    assert list((tmp_path / "out/masks").iterdir())
