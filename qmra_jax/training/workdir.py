"""The folder of a run, local or on gs://: which run it belongs to, and writing to it.

workdir/config.json          the run's config, written when it starts
workdir/init_from.json       the checkpoint or file that its weights came from, if any
workdir/checkpoints/STEP/    see `qmra_jax.training.checkpoint`
workdir/validation/STEP.json scores on held-out videos, see `qmra_jax.training.validation`
workdir/metrics.jsonl, tensorboard/, pictures/, profile/
"""

import json
from collections.abc import Collection
from typing import Any

from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from qmra_jax.errors import InputError
from qmra_jax.files import is_remote, make_folder, written_whole

# Settings, or groups of settings, that may change when a run resumes: they do not affect the
# numbers of a step.
FREE = (
    *("cpu_devices", "parallel", "model.remat", "profile", "eval"),
    *("log_every", "picture_every", "checkpoint_every", "keep_checkpoints", "keep_best"),
    *("data.root", "data.loader", "data.workers", "data.prefetch"),
)
ADVICE = "give another --workdir"


def check_run(workdir: epath.Path, config: ConfigDict, free: Collection[str] = FREE) -> None:
    """Checks that a workdir is unused, or holds the run of this config.

    Args:
      workdir: the run's workdir.
      config: the run's config.
      free: settings, or groups of settings, that may differ.

    Raises:
      InputError: if it cannot be reached, is not a folder, or holds a run with another config.
    """
    try:
        exists = workdir.exists()
    except Exception as error:  # each file system has its own
        raise InputError(
            f"workdir {workdir} cannot be reached ({_first_line(error)}): give another one, or see"
            " docs/tpu_pod.md on access to buckets"
        ) from None
    if exists and not workdir.is_dir():
        raise InputError(f"workdir {workdir} is a file: give a folder, or a new name")
    path, checkpoints = workdir / "config.json", workdir / "checkpoints"
    if not path.exists():
        if checkpoints.is_dir() and any(checkpoints.iterdir()):
            raise InputError(
                f"workdir {workdir} has checkpoints but no config.json, so it is unknown which run"
                " they belong to: restore the file, or give another --workdir"
            )
        return
    _check_same_config(workdir, _read_json(path), config, free)


def claim(workdir: epath.Path, config: ConfigDict, init_from: str = "") -> None:
    """Marks a workdir as this run's.

    Args:
      workdir: the run's workdir.
      config: the run's config.
      init_from: what `config.init_from` resolved to; "" keeps an existing note of it.

    Raises:
      InputError: if the workdir cannot be written.
    """
    write_text(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")
    if init_from:
        note = {"init_from": config.init_from, "resolved": init_from}
        write_text(workdir / "init_from.json", json.dumps(note, indent=2) + "\n")


def resolved_init_from(workdir: epath.Path, config: ConfigDict) -> str:
    """What this `config.init_from` resolved to when the run started; "" if it was not noted.

    Raises:
      InputError: if the note cannot be read.
    """
    path = workdir / "init_from.json"
    if not path.exists():
        return ""
    note = _read_json(path)
    return note["resolved"] if note["init_from"] == config.init_from else ""


def write_text(path: epath.Path, text: str) -> None:
    """Writes a file, local or in a bucket, so that it is never seen half written.

    Raises:
      InputError: if its folder cannot be written to.
    """
    if not is_remote(path):
        make_folder(path.parent, advice=ADVICE)
        with written_whole(path) as part:
            part.write_text(text)
        return
    try:
        path.write_text(text)  # an object in a bucket appears only when it is complete
    except Exception as error:  # each file system has its own
        raise InputError(
            f"cannot write to {path.parent} ({_first_line(error)}): {ADVICE}, or see"
            " docs/tpu_pod.md on access to buckets"
        ) from None


def make_subfolder(workdir: epath.Path, name: str) -> epath.Path:
    """Makes a folder in the workdir unless it exists, and returns it."""
    folder = workdir / name
    if is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    else:
        make_folder(folder, advice=ADVICE)
    return folder


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON stores it: tuples become lists."""
    return json.loads(config.to_json_best_effort())


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: restore it, or give another --workdir")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_same_config(
    workdir: epath.Path, old: dict[str, Any], config: ConfigDict, free: Collection[str]
) -> None:
    before, now = (traverse_util.flatten_dict(x, sep=".") for x in (old, plain(config)))
    differences = [
        f"{key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} here"
        for key in sorted(before.keys() | now.keys())
        if key not in free and key.split(".")[0] not in free and before.get(key) != now.get(key)
    ]
    if differences:
        raise InputError(
            f"workdir {workdir} holds a run with another config ({'; '.join(differences)}): give"
            " another --workdir, or the same config to resume that run"
        )
