"""What a row of an ablation is evaluated on, as evaluate.py is told it."""

import dataclasses
import json
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from data_pipeline.triplets.entries import Entry, resolve
from qmra_jax.evaluation.results import digest
from qmra_jax.inference import memory_bank
from qmra_jax.training.validation import open_validation

FIRST_AND_PREVIOUS = memory_bank.EXTRA  # frames, of a memory without extra ones


@dataclasses.dataclass(frozen=True)
class Examination:
    """Videos, known to be there, and how they are run over.

    Attributes:
      folder: of the dataset.
      arguments: evaluate.py's, but for folders.
      data: stands for the state of frames and true masks: their names, sizes and times.
    """

    folder: Path
    arguments: tuple[str, ...]
    data: str


def examination(config: ConfigDict) -> Examination:
    """What `config.eval` says.

    Args:
      config: of the whole run.

    Raises:
      InputError: if a value is out of range, or a file is missing or unfit.
    """
    config = config.copy_and_resolve_references()
    config.eval.every = config.steps  # so that its files are looked for
    found = open_validation(config, epath.Path())
    entry = Entry.parse(config.eval.videos, "eval.videos")
    if entry.year and entry.year != found.protocol.removeprefix("davis"):
        raise entry.error(f"evaluate.py knows {found.protocol}'s own lists: leave the year out")
    arguments = [
        f"--dataset={found.protocol}",
        f"--split={entry.split or 'all'}",
        f"--short_side={found.short_side or 0}",
        f"--interval={found.interval}",
    ]
    if not config.eval.extra_frames:
        arguments.append(f"--max_memory={FIRST_AND_PREVIOUS}")
    if config.eval.max_sequences:
        arguments += ["--sequences", *(video.name for video in found.videos)]
    files = [file for pair in found.truth.items() for file in pair]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    folder = Path(resolve(entry, config.data.root))
    return Examination(folder, tuple(arguments), digest(json.dumps(states)))
