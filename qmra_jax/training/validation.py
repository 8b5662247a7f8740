"""Evaluation while training: J and F on held-out videos, kept in workdir/validation/STEP.json.

Videos lie in the DAVIS layout, and every one starts from its first mask, of which the network takes
the tight boxes, as in `evaluate.py`. All devices of all processes share the videos.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from data_pipeline.eval_videos import EvalVideo, find_eval_videos
from data_pipeline.triplets.entries import Entry, resolve
from qmra_jax import masks
from qmra_jax.errors import InputError
from qmra_jax.evaluation import segmenter
from qmra_jax.files import is_remote
from qmra_jax.images import check_headers
from qmra_jax.network.model import QMRA
from qmra_jax.scoring import protocols
from qmra_jax.training import distributed, workdir

METRICS = ("J&F", "J", "F")
PROTOCOLS = ("davis2016", "davis2017")
FOLDER = "validation"


class Abandoned(Exception):
    """An evaluation that a request to stop cut short; it is done again when the run goes on."""


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a run is evaluated on, and where the scores go.

    Attributes:
      folder: workdir/validation.
      videos: of the held-out split.
      truth: each of their frames -> its mask.
      protocol: "davis2016" or "davis2017", see `qmra_jax.scoring.protocols`.
      every: so many steps.
      short_side: larger frames are shrunk to this many pixels on their shorter side; None: never.
      interval: every so many frames one stays in the memory.
      extra_frames: whether any does.
      metric: a name of `METRICS`, by which the best checkpoints are chosen.
    """

    folder: epath.Path
    videos: tuple[EvalVideo, ...]
    truth: Mapping[Path, Path]
    protocol: str
    every: int
    short_side: int | None
    interval: int
    extra_frames: bool
    metric: str

    def is_due(self, step: int, steps: int) -> bool:
        """Whether a run of `steps` steps is evaluated after this one."""
        return bool(self.videos) and step > 0 and (step % self.every == 0 or step == steps)

    def is_done(self, step: int) -> bool:
        """Whether the scores of a step are there."""
        return self._path(step).exists()

    def best(self, count: int, among: Collection[int]) -> list[int]:
        """The steps with the highest `metric`, at most `count` of them, best first.

        Args:
          count: how many.
          among: the steps that may be chosen; those without scores are not.
        """
        paths = {step: self._path(step) for step in among if count and self.is_done(step)}
        scores = {step: json.loads(path.read_text())[self.metric] for step, path in paths.items()}
        scores = {step: x if np.isfinite(x) else -1.0 for step, x in scores.items()}
        # Of equals the earlier: the choice then does not change when the run goes on.
        return sorted(scores, key=lambda step: (-scores[step], step))[:count]

    def __call__(
        self,
        step: int,
        module: QMRA,
        variables: Any,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Evaluates this process's share of the videos, and gathers the scores of all.

        Args:
          step: whose scores these are.
          module: the network.
          variables: its weights on one device; every local device gets a copy.
          stop: whether to give up; asked before each video and after each frame.

        Returns:
          `{"J", "F", "J&F"}`, the means that the protocol takes.

        Raises:
          Abandoned: if `stop` said so.
        """
        make = segmenter.make_segmenter(
            module,
            variables,
            start="mask",
            interval=self.interval,
            short_side=self.short_side,
            extra_frames=self.extra_frames,
        )
        table = np.zeros((len(self.videos), 3))  # J, F, and how many objects these are means of
        row = {video.name: k for k, video in enumerate(self.videos)}

        def score(segment: segmenter.Segmenter, video: EvalVideo, tick: Callable) -> None:
            tick()  # before anything is compiled
            truth = np.stack([masks.read_labels(self.truth[frame]) for frame in video.frames])
            predicted = np.zeros_like(truth)
            for frame in segment.frames(video):
                predicted[frame.index] = frame.labels
                tick()
            scores = protocols.score_sequence(truth, predicted, self.protocol, name=video.name)
            objects = len(scores.get("objects", "1"))
            table[row[video.name]] = scores["J"]["mean"], scores["F"]["mean"], objects

        def check_stop() -> None:
            if stop():
                raise Abandoned

        index, count = distributed.place()
        mine = segmenter.shard(self.videos, index + 1, count)
        segmenter.over_devices(mine, make, score, jax.local_devices(), tick=check_stop)
        table = distributed.gather(table).sum(axis=0)
        j, f = np.average(table[:, :2], axis=0, weights=table[:, 2])
        means = {"J&F": float(j + f) / 2, "J": float(j), "F": float(f)}
        scores = means | {
            "protocol": self.protocol,
            "sequences": {
                video.name: {"J": row[0], "F": row[1]}
                for video, row in zip(self.videos, table.tolist(), strict=True)
            },
        }
        if distributed.is_first():
            workdir.write_text(self._path(step), json.dumps(scores, indent=2) + "\n")
        distributed.barrier(f"validation of step {step}")
        return means

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
    if wanted.protocol not in PROTOCOLS:
        raise InputError(
            f"eval.protocol {wanted.protocol!r}: expected one of {', '.join(PROTOCOLS)}"
        )
    videos, truth = _find(wanted, config.data.root) if wanted.every else ((), {})
    if wanted.interval < 1 or 0 < wanted.short_side < 16 or wanted.short_side < 0:
        raise InputError(
            f"eval.interval {wanted.interval}, eval.short_side {wanted.short_side}: expected at"
            " least 1 frame, and 0 (never shrink) or at least 16 pixels"
        )
    return Validation(
        run / FOLDER,
        videos,
        truth,
        wanted.protocol,
        wanted.every,
        wanted.short_side or None,
        wanted.interval,
        wanted.extra_frames,
        wanted.metric,
    )


def _find(wanted: ConfigDict, root: str) -> tuple[tuple[EvalVideo, ...], dict[Path, Path]]:
    """The videos of `config.eval`, and each of their frames' mask."""
    entry = Entry.parse(wanted.videos, "eval.videos")
    if entry.repeat != 1:
        raise entry.error("@REPEAT is for training: leave it out")
    try:
        folder = resolve(entry, root)
        if is_remote(folder):
            raise InputError("these are read from this machine's disks alone: copy them there")
        split = entry.split or "all"
        chosen = find_eval_videos(Path(folder), wanted.protocol, split=split, year=entry.year)
    except InputError as error:
        raise entry.error(str(error)) from None
    if chosen.unscored:
        raise entry.error(chosen.unscored)
    videos = chosen.videos[: wanted.max_sequences or None]
    frames = {frame for video in videos for frame in video.frames}
    truth = {frame: mask for frame, mask in chosen.pairs if frame in frames}
    check_headers(truth.items())
    return videos, truth
