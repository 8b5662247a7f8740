"""Evaluation while training: J and F on held-out videos, kept in workdir/validation/STEP.json.

Videos lie in the DAVIS layout, and every sequence starts from the tight boxes of its first mask, as
in `evaluate.py`. Several processes share the sequences.
"""

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from data_pipeline.davis import Sequence, find_sequences
from data_pipeline.decode import check_headers, read_image
from qmra_jax import boxes, distributed, masks, protocols, workdir
from qmra_jax.errors import InputError
from qmra_jax.model import QMRA
from qmra_jax.propagate import Propagator

METRICS = ("J&F", "J", "F")
FOLDER = "validation"


class Abandoned(Exception):
    """An evaluation that a request to stop cut short; it is done again when the run goes on."""


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a run is evaluated on, and where the scores go.

    Attributes:
      folder: workdir/validation.
      sequences: of the held-out split.
      protocol: "davis2016" or "davis2017", see `qmra_jax.protocols`.
      every: so many steps.
      short_side: larger frames are shrunk to this many pixels on their shorter side; None: never.
      interval: every so many frames one stays in the memory.
      metric: a name of `METRICS`, by which the best checkpoints are chosen.
    """

    folder: epath.Path
    sequences: tuple[Sequence, ...]
    protocol: str
    every: int
    short_side: int | None
    interval: int
    metric: str

    def is_due(self, step: int, steps: int) -> bool:
        """Whether a run of `steps` steps is evaluated after this one."""
        return bool(self.sequences) and step > 0 and (step % self.every == 0 or step == steps)

    def is_done(self, step: int) -> bool:
        """Whether the scores of a step are there."""
        return self._path(step).exists()

    def best(self, count: int) -> list[int]:
        """The steps with the highest `metric` so far, at most `count` of them, best first."""
        if not self.folder.exists():
            return []
        found = {int(p.stem): p for p in self.folder.iterdir() if p.name[:-5].isdecimal()}
        scores = {
            step: _metric(json.loads(p.read_text()), self.metric) for step, p in found.items()
        }
        # Of equals the earlier: the choice then does not change when the run goes on.
        return sorted(scores, key=lambda step: (-scores[step], step))[:count]

    def __call__(
        self,
        step: int,
        module: QMRA,
        variables: Any,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Evaluates this process's share of the sequences, and gathers the scores of all.

        Args:
          step: whose scores these are.
          module: the network.
          variables: its weights on one device.
          stop: whether to give up; asked before each frame.

        Returns:
          `{"J", "F", "J&F"}`, the means that the protocol takes.

        Raises:
          Abandoned: if `stop` said so.
        """
        propagator = Propagator(
            module, variables, interval=self.interval, short_side=self.short_side
        )
        index, count = distributed.place()
        table = np.zeros((len(self.sequences), 3))  # J, F, and how many objects these are means of
        for k in range(index, len(self.sequences), count):
            table[k] = self._score(propagator, self.sequences[k], stop)
        table = distributed.gather(table).sum(axis=0)
        j, f = np.average(table[:, :2], axis=0, weights=table[:, 2])
        means = {"J&F": float(j + f) / 2, "J": float(j), "F": float(f)}
        scores = means | {
            "protocol": self.protocol,
            "sequences": {
                s.name: {"J": row[0], "F": row[1]}
                for s, row in zip(self.sequences, table.tolist(), strict=True)
            },
        }
        if distributed.is_first():
            workdir.write_text(self._path(step), json.dumps(scores, indent=2) + "\n")
        distributed.barrier(f"validation of step {step}")
        return means

    def _score(self, propagator: Propagator, sequence: Sequence, stop: Callable[[], bool]):
        truth = np.stack([masks.read_labels(path) for path in sequence.annotations])
        predicted = np.zeros_like(truth)
        for number, path in enumerate(sequence.frames):
            if stop():
                raise Abandoned
            frame = read_image(path)
            result = (
                propagator.step(frame)
                if number
                else propagator.start(frame, _first_boxes(truth[0], self.protocol))
            )
            predicted[number] = result.labels
        score = protocols.score_sequence(truth, predicted, self.protocol, name=sequence.name)
        return score["J"]["mean"], score["F"]["mean"], len(score.get("objects", "1"))

    def _path(self, step: int) -> epath.Path:
        return self.folder / f"{step:07d}.json"


def open_validation(config: ConfigDict, run: epath.Path) -> Validation:
    """The evaluation that `config.eval` asks for, its files known to be there.

    Args:
      config: of the whole run.
      run: its workdir; nothing is written yet.

    Raises:
      InputError: if a value is out of range or a file is missing or unfit.
    """
    wanted = config.eval
    if wanted.every < 0 or wanted.max_sequences < 0:
        raise InputError(
            f"eval.every {wanted.every}, eval.max_sequences {wanted.max_sequences}: expected 0"
            " (never; all of them) or more"
        )
    if wanted.metric not in METRICS:
        raise InputError(f"eval.metric {wanted.metric!r}: expected one of {', '.join(METRICS)}")
    if config.keep_best < 0:
        raise InputError(f"keep_best {config.keep_best}: expected 0 or more")
    protocols.check_protocol(wanted.protocol)
    sequences = _find(wanted, config.data.root) if wanted.every else []
    if wanted.interval < 1 or 0 < wanted.short_side < 16 or wanted.short_side < 0:
        raise InputError(
            f"eval.interval {wanted.interval}, eval.short_side {wanted.short_side}: expected at"
            " least 1 frame, and 0 (never shrink) or at least 16 pixels"
        )
    return Validation(
        run / FOLDER,
        tuple(sequences),
        wanted.protocol,
        wanted.every,
        wanted.short_side or None,
        wanted.interval,
        wanted.metric,
    )


def _find(wanted: ConfigDict, root: str) -> list[Sequence]:
    match = re.fullmatch(r"(?P<folder>.+?)(:(?P<split>[^:/]+))?(:(?P<year>\w+))?", wanted.videos)
    if not match:
        raise InputError(
            f"eval.videos {wanted.videos!r}: expected FOLDER[:SPLIT[:YEAR]] in the DAVIS layout,"
            " such as davis2016:val"
        )
    base = root or os.environ.get("QMRA_DATA", "")
    folder = Path(base) / match["folder"]
    if not base and not folder.is_absolute():
        raise InputError(
            f"eval.videos {wanted.videos!r} is relative, but data.root is empty and QMRA_DATA is"
            " not set: set one of them to the folder that holds it"
        )
    year = match["year"] or wanted.protocol.removeprefix("davis")
    sequences = find_sequences(folder, year=year, split=match["split"])
    sequences = sequences[: wanted.max_sequences or None]
    if short := [s.name for s in sequences if len(s.frames) < 3]:
        raise InputError(
            f"eval.videos: sequence {', '.join(short)} has fewer than 3 frames, and the first and"
            " the last are not scored: leave it out of the split's list"
        )
    check_headers(pair for s in sequences for pair in zip(s.frames, s.annotations, strict=True))
    for sequence in sequences:
        first = sequence.annotations[0]
        starts = _first_boxes(masks.read_labels(first), wanted.protocol)
        if not len(starts) or not starts[:, 2:].all():
            raise InputError(
                f"eval.videos: mask {first} does not show every object: expected each in the first"
                " frame (0/255 masks are for eval.protocol davis2016)"
            )
    return sequences


def _first_boxes(labels: np.ndarray, protocol: str) -> np.ndarray:
    """The tight boxes of a first mask `[h, w]`: int32 `[n, 4]`; zeros for what does not show."""
    if protocol == "davis2016":  # all labels are one object
        return boxes.mask_to_box(masks.foreground(labels)[None])
    present = labels[labels != masks.VOID]
    return boxes.mask_to_box(labels == np.arange(1, present.max(initial=0) + 1)[:, None, None])


def _metric(scores: dict[str, Any], name: str) -> float:
    return scores[name] if np.isfinite(scores[name]) else -1.0
