"""A run's folder: whose it is, and whether it can be written to. It may be local or on gs://.

workdir/config.json          the run's config, written when it starts
workdir/init_from.json       the checkpoint or file that its weights came from, where it has such
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

# What a continued run may change: nothing here alters the numbers of a step.
FREE = (
    "cpu_devices",
    "parallel",
    "model.remat",
    "log_every",
    "picture_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_best",
    "profile",
    "eval",
    "data.root",
    "data.loader",
    "data.workers",
    "data.prefetch",
)


ADVICE = "give another --workdir"


def check_run(workdir: epath.Path, config: ConfigDict, free: Collection[str] = FREE) -> None:
    """Finds out whether a workdir is free, or holds this very run.

    Args:
      workdir: of the run.
      config: of the run.
      free: settings, or groups of them, that may differ.

    Raises:
      InputError: if it cannot be reached, is no folder, or holds a run with another config.
    """
    try:
        exists = workdir.exists()
    except Exception as error:  # each file system has its own
        raise InputError(
            f"workdir {workdir} cannot be reached ({_first_line(error)}): give another one, or"
            " see docs/tpu_pod.md on access to buckets"
        ) from None
    if exists and not workdir.is_dir():
        raise InputError(f"workdir {workdir} is a file: give a folder, or a new name")
    path, checkpoints = workdir / "config.json", workdir / "checkpoints"
    if not path.exists():
        if checkpoints.is_dir() and any(checkpoints.iterdir()):
            raise InputError(
                f"workdir {workdir} has checkpoints but no config.json, so whose they are is"
                " unknown: put it back, or give another --workdir"
            )
        return
    try:
        there = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged: put it back, or give another --workdir") from None
    _check_same(workdir, there, config, free)


def claim(workdir: epath.Path, config: ConfigDict, init_from: str = "") -> None:
    """Makes a workdir this run's.

    Args:
      workdir: of the run.
      config: of the run.
      init_from: what `config.init_from` stands for; "" leaves what is noted of it as it is.

    Raises:
      InputError: if it cannot be written.
    """
    write_text(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")
    if init_from:
        note = {"init_from": config.init_from, "resolved": init_from}
        write_text(workdir / "init_from.json", json.dumps(note, indent=2) + "\n")


def resolved_init_from(workdir: epath.Path, config: ConfigDict) -> str:
    """What `claim` noted that this `config.init_from` stands for; "" if nothing.

    Raises:
      InputError: if the note cannot be read.
    """
    path = workdir / "init_from.json"
    if not path.exists():
        return ""
    try:
        note = json.loads(path.read_text())
        return note["resolved"] if note["init_from"] == config.init_from else ""
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged: put it back, or give another --workdir") from None


def write_text(path: epath.Path, text: str) -> None:
    """Writes a file that is whole or not there, local or in a bucket.

    Raises:
      InputError: if its folder cannot be written to.
    """
    if not is_remote(path):
        make_folder(path.parent, advice=ADVICE)
        with written_whole(path) as part:
            part.write_text(text)
        return
    try:
        path.write_text(text)  # an object in a bucket appears whole, once it is closed
    except Exception as error:  # each file system has its own
        raise InputError(
            f"cannot write to {path.parent} ({_first_line(error)}): {ADVICE}, or see"
            " docs/tpu_pod.md on access to buckets"
        ) from None


def make_subfolder(workdir: epath.Path, name: str) -> epath.Path:
    """A folder of the workdir, made if need be."""
    folder = workdir / name
    if is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    else:
        make_folder(folder, advice=ADVICE)
    return folder


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON keeps it: tuples are lists."""
    return json.loads(config.to_json_best_effort())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_same(
    workdir: epath.Path, old: dict[str, Any], new: ConfigDict, free: Collection[str]
) -> None:
    before, now = (traverse_util.flatten_dict(config, sep=".") for config in (old, plain(new)))
    different = [
        f"{key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} here"
        for key in sorted(before.keys() | now.keys())
        if key not in free and key.split(".")[0] not in free and before.get(key) != now.get(key)
    ]
    if different:
        raise InputError(
            f"workdir {workdir} holds a run with another config ({'; '.join(different)}):"
            " give another --workdir, or the same config to continue that run"
        )
