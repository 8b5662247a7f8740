"""Evaluation during training: J and F on held-out videos, kept in workdir/validation/STEP.json.

The videos are in the DAVIS layout. Each starts from its first mask, of which the network takes the
bounding boxes, as in `evaluate.py`. All devices of all processes share the videos.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
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
    """An evaluation ended early on a request to stop; it is repeated when the run resumes."""


@dataclasses.dataclass(frozen=True)
class Validation:
    """The evaluation of a run.

    Attributes:
      config: the run's config.
      folder: workdir/validation.
      videos: the held-out videos; empty if the run is never evaluated.
      truth: mask file of each of their frames.
    """

    config: ConfigDict
    folder: epath.Path
    videos: tuple[EvalVideo, ...]
    truth: Mapping[Path, Path]

    def is_due(self, step: int) -> bool:
        """Whether the run is evaluated after this step: every `config.eval.every`, and the last."""
        is_last = step == self.config.steps
        return bool(self.videos) and step > 0 and (step % self.config.eval.every == 0 or is_last)

    def is_missing(self, step: int) -> bool:
        """Whether the evaluation of a step is due and has no scores yet."""
        return self.is_due(step) and not self._path(step).exists()

    def best(self, steps: Iterable[int]) -> list[int]:
        """The `config.keep_best` steps with the highest `config.eval.metric`, best first.

        Steps without scores are left out.
        """
        scores = {}
        for step in steps if self.config.keep_best else ():
            if self._path(step).exists():
                score = json.loads(self._path(step).read_text())[self.config.eval.metric]
                scores[step] = score if np.isfinite(score) else -1.0
        # Ties go to the earlier step, so that the choice does not change as the run continues.
        return sorted(scores, key=lambda step: (-scores[step], step))[: self.config.keep_best]

    def __call__(
        self,
        step: int,
        module: QMRA,
        variables: Any,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Evaluates this process's share of the videos, and gathers the scores of all processes.

        Args:
          step: the step to evaluate.
          module: the network.
          variables: its variables on one device; every local device gets a copy.
          stop: whether to end early; called before each video and after each frame.

        Returns:
          The means "J", "F" and "J&F" of the protocol.

        Raises:
          Abandoned: if `stop` returned True.
        """
        settings = self.config.eval
        make = segmenter.make_segmenter(
            module,
            variables,
            start="mask",
            interval=settings.interval,
            short_side=settings.short_side,
            extra_frames=settings.extra_frames,
        )
        table = np.zeros((len(self.videos), 3))  # J and F, means over so many objects
        row = {video.name: k for k, video in enumerate(self.videos)}

        def score(segment: segmenter.Segmenter, video: EvalVideo, tick: Callable) -> None:
            tick()  # before anything is compiled
            truth = np.stack([masks.read_labels(self.truth[frame]) for frame in video.frames])
            predicted = np.zeros_like(truth)
            for frame in segment.frames(video):
                predicted[frame.number] = frame.labels
                tick()
            scores = protocols.score_sequence(truth, predicted, settings.protocol, name=video.name)
            objects = len(scores.get("objects", "1"))
            table[row[video.name]] = scores["J"]["mean"], scores["F"]["mean"], objects

        def check_stop() -> None:
            if stop():
                raise Abandoned

        index, count = distributed.place()
        share = segmenter.shard(self.videos, index + 1, count)
        segmenter.over_devices(share, make, score, jax.local_devices(), tick=check_stop)
        table = distributed.gather(table).sum(axis=0)
        j, f = np.average(table[:, :2], axis=0, weights=table[:, 2])
        means = {"J&F": float(j + f) / 2, "J": float(j), "F": float(f)}
        sequences = {
            video.name: {"J": j, "F": f}
            for video, (j, f, _) in zip(self.videos, table.tolist(), strict=True)
        }
        if distributed.is_first():
            scores = means | {"protocol": settings.protocol, "sequences": sequences}
            workdir.write_text(self._path(step), json.dumps(scores, indent=2) + "\n")
        distributed.barrier(f"validation of step {step}")
        return means

    def _path(self, step: int) -> epath.Path:
        return self.folder / f"{step:07d}.json"


def open_validation(config: ConfigDict, run: epath.Path) -> Validation:
    """Finds the videos of `config.eval`; writes nothing.

    Args:
      config: the run's config, checked by `config_check.check`.
      run: its workdir.

    Raises:
      InputError: if a video or mask is missing or unsuitable.
    """
    videos, truth = _find(config.eval, config.data.root) if config.eval.every else ((), {})
    return Validation(config, run / FOLDER, videos, truth)


def _find(settings: ConfigDict, root: str) -> tuple[tuple[EvalVideo, ...], dict[Path, Path]]:
    """The videos of `config.eval`, and the mask file of each of their frames."""
    entry = Entry.parse(settings.videos, "eval.videos")
    if entry.repeat != 1:
        raise entry.error("@REPEAT is for training data: leave it out")
    try:
        folder = resolve(entry, root)
        if is_remote(folder):
            raise InputError("expected a folder on a local disk: copy it there")
        split = entry.split or "all"
        dataset = find_eval_videos(Path(folder), settings.protocol, split=split, year=entry.year)
    except InputError as error:
        raise entry.error(str(error)) from None
    if dataset.unscored:
        raise entry.error(dataset.unscored)
    videos = dataset.videos[: settings.max_sequences or None]
    frames = {frame for video in videos for frame in video.frames}
    truth = {frame: mask for frame, mask in dataset.pairs if frame in frames}
    check_headers(truth.items())
    return videos, truth
