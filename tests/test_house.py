"""The house: who may import whom, where tests stand, and that a name means one thing."""

import ast
import collections
import itertools
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Each room and those that it may import, all above it in this table: so no two import each other.
ROOMS = {
    "ground": (),  # the modules of qmra_jax itself, and runtime
    "network": ("ground",),
    "inference": ("ground", "network"),
    "weights": ("ground", "network"),
    "video": ("ground",),
    "data_pipeline": ("ground",),
    "scoring": ("ground", "data_pipeline"),
    "evaluation": ("ground", "network", "inference", "data_pipeline"),
    "training": ("ground", "network", "weights", "data_pipeline", "scoring", "evaluation"),
    "segmentation": ("ground", "inference", "video"),
    "explain": ("ground", "network", "inference"),
    "cli": (
        *("ground", "network", "weights", "video", "scoring"),
        *("training", "segmentation", "explain"),
    ),
}
# The same within the pipeline.
PIPELINE = {
    "datasets": (),
    "synthetic": (),
    "triplets": ("datasets", "synthetic"),
    "builders": ("datasets", "synthetic"),
    "eval_videos": ("datasets",),
    "show": ("triplets",),
    "build": (),  # finds the builders by their folders
}
# Where an import of ours stands inside a function: it puts off a slow library, as its comment says.
LATE = (
    *("qmra_jax.cli.", "qmra_jax.network.memory_read"),
    "data_pipeline.triplets.stream",
)
# Libraries that a room does without.
WITHOUT = {
    "ground": {"flax", "jax", "optax", "orbax", "tensorflow", "tensorflow_datasets"},
    "data_pipeline": {"flax", "jax", "optax", "orbax"},
    "network": {"ml_collections", "orbax", "tensorflow"},
}
# Tests of what is not a module: the shipped weights, a page of docs/, and this.
NO_MODULE = {"test_docs", "test_house", "test_shipped_weights", "test_tutorial"}


class Import(NamedTuple):
    """A module that another one imports, at the top of its file or inside a function."""

    importer: str
    imported: str
    late: bool


def sources(*folders):
    """Module name -> path."""
    paths = itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def imports_of(module, path):
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by dots"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(module, name, id(node) not in top) for name in names)


PACKAGES = sources("qmra_jax", "data_pipeline")
IMPORTS = [found for module, path in PACKAGES.items() for found in imports_of(module, path)]


def room(name):
    """The room of a module, or of a name imported from one; None for what is not of the house."""
    top, *rest = name.split(".")
    if top == "data_pipeline":
        return top
    if name == "qmra_jax.__main__":
        return "cli"
    if top != "qmra_jax":
        return None
    return rest[0] if rest and rest[0] in ROOMS else "ground"


def part(name):
    """The same of the pipeline's parts."""
    top, *rest = name.split(".")
    return rest[0] if top == "data_pipeline" and rest and rest[0] in PIPELINE else None


@pytest.mark.parametrize(("table", "place"), [(ROOMS, room), (PIPELINE, part)])
def test_imports_run_one_way(table, place):
    wrong = [
        (found.importer, found.imported)
        for found in IMPORTS
        for here, there in [(place(found.importer), place(found.imported))]
        if here and there and here != there and there not in table[here]
    ]
    assert not wrong
    for above, (name, below) in enumerate(table.items()):
        assert set(below) <= set(list(table)[:above]), name


def test_every_arrow_is_used():
    used = {(place(i.importer), place(i.imported)) for i in IMPORTS for place in (room, part)}
    for table in (ROOMS, PIPELINE):
        assert not [(a, b) for a, below in table.items() for b in below if (a, b) not in used]


def test_every_folder_is_a_room():
    folders = {path.parent.name for path in (ROOT / "qmra_jax").glob("*/__init__.py")}
    assert folders == set(ROOMS) - {"ground", "data_pipeline"} | {"runtime"}
    parts = {path.stem for path in (ROOT / "data_pipeline").glob("*.py")} - {"__init__"}
    parts |= {path.parent.name for path in (ROOT / "data_pipeline").glob("*/__init__.py")}
    assert parts == set(PIPELINE)


def test_the_package_needs_no_checkout():
    beside = {"configs", "benchmarks", "scripts", "tests", "train", "evaluate"}
    assert not [found for found in IMPORTS if found.imported.split(".")[0] in beside]


def test_no_import_is_put_off_to_dodge_a_circle():
    late = [found for found in IMPORTS if found.late and room(found.imported)]
    assert not [found for found in late if not found.importer.startswith(LATE)]


@pytest.mark.parametrize("name", WITHOUT)
def test_rooms_do_without_what_is_slow_to_import_or_not_theirs(name):
    here = [found for found in IMPORTS if room(found.importer) == name]
    here = [found for found in here if not found.importer.startswith("qmra_jax.runtime.")]
    assert not [found for found in here if found.imported.split(".")[0] in WITHOUT[name]]


def test_tests_stand_where_what_they_test_stands():
    """tests/network/test_model.py, or test_model_TOPIC.py, tests qmra_jax/network/model.py."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        if path.stem in NO_MODULE or folder == Path("parity"):
            continue
        places = (ROOT / folder, ROOT / "qmra_jax" / folder)
        tested = path.stem.removeprefix("test_")
        modules = [file.stem for place in places for file in place.glob("*.py")]
        modules += ["configs"] if folder == Path() else []
        assert any(f"{tested}_".startswith(f"{module}_") for module in modules), path


def test_no_test_imports_another_and_helpers_stand_in_support():
    tests = sources("tests")
    for module, path in tests.items():
        for found in imports_of(module, path):
            if found.imported.split(".")[0] == "tests":
                assert found.imported.startswith("tests.support."), found
        assert path.name.startswith(("test_", "conftest")) or path.parent.name == "support", path


def test_no_two_public_classes_share_a_name():
    """But for `Builder`, which TFDS asks of every dataset."""
    homes = collections.defaultdict(list)
    for module, path in (PACKAGES | sources("benchmarks/ablation")).items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module)
    homes.pop("Builder")
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}
