"""A folder of evaluation results, which an interrupted run goes on with and no other spoils.

    OUTPUT/Annotations/NAME/00000.png    palette PNGs
    OUTPUT/sequences/NAME.json           what the masks of NAME were made with, and how long it took
    OUTPUT/scores.json, *.csv            once every sequence is finished and there is a truth
    OUTPUT/results.zip                   for a benchmark's server

A sequence is finished when its record says so and its masks are there. It is used again only where
it was made with the very same: weights, options, frames, first masks, version of this package and
platform; and where its masks are those that were written then, byte for byte.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.datasets.davis import shortened
from data_pipeline.eval_videos import EvalVideo
from qmra_jax.errors import InputError
from qmra_jax.files import make_folder, written_whole

_DERIVED = ("scores.json", "frames.json", "results.zip", "global_results-*", "per-sequence_*")


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long a sequence took.

    Attributes:
      frames: that were run over.
      steps: of these, how many were timed: no object entered, and nothing compiled.
      step_seconds: of those, each until its result was on the host.
      wall_seconds: from opening the first frame to the last mask on disk.
      carried: names of frames that could not be read and got the mask of the frame before.
    """

    frames: int
    steps: int
    step_seconds: float
    wall_seconds: float
    carried: tuple[str, ...] = ()


class Results:
    """The results of one command, in its output folder."""

    def __init__(
        self,
        folder: Path,
        videos: Sequence[EvalVideo],
        settings: Mapping[str, Any],
        *,
        carry: bool = False,
    ):
        """Looks at the videos' files (names, sizes, times); touches nothing yet.

        Args:
          folder: of the results.
          videos: all that the command is for, whichever shard of them is made here.
          settings: what the masks depend on beside the videos: texts, numbers, None.
          carry: whether a sequence with carried frames may be used again.

        Raises:
          InputError: if the output folder is the dataset itself.
        """
        self.folder, self.annotations = Path(folder), Path(folder) / "Annotations"
        self.videos = {video.name: video for video in videos}
        self._carry = carry
        within = self.annotations.resolve()
        starts = (start for video in videos for start in video.starts.values())
        if any(start.mask.resolve().is_relative_to(within) for start in starts):
            raise InputError(
                f"output {folder} is the dataset itself, whose masks would be replaced: give"
                " another --output"
            )
        self._made_with = {video.name: {**settings, **_inputs(video)} for video in videos}
        self._digests: dict[tuple, str] = {}  # by a mask's path and state

    def claim(self, *, overwrite: bool = False) -> list[EvalVideo]:
        """The videos that are not finished, with the folder known to be free for them.

        Scores and a zip that are there are removed if any video is left: they would not be of the
        masks beside them.

        Args:
          overwrite: results that were made with something else may be replaced. What was made with
            the same is kept in any case.

        Raises:
          InputError: if there are such results and they may not, saying what differs.
        """
        refused = {name: why for name in self.videos if (why := self._conflict(name))}
        others = sorted(self._scored() - self.videos.keys())
        if (refused or others) and not overwrite:
            name, why = next(iter(refused.items()), (None, ""))
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            what = f"sequence {name} {why}{more}" if name else f"scores of {shortened(others)}"
            raise InputError(
                f"output {self.folder} holds results already, {what}: give another --output, or"
                " --overwrite to replace what differs"
            )
        make_folder(self.annotations)
        left = [v for v in self.videos.values() if v.name in refused or not self.finished(v.name)]
        if left:
            for pattern in _DERIVED:
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
        return left

    def begin(self, name: str) -> Path:
        """Notes that a sequence is being made, and gives its folder, without masks."""
        self._write(name, {"finished": False, "made_with": self._made_with[name]})
        folder = self.annotations / name
        for old in folder.glob("*.png"):
            old.unlink()
        return folder

    def finish(self, name: str, timing: Timing) -> None:
        """Notes that all masks of a sequence are there, and what they hold."""
        files = sorted(self.videos[name].written.values())
        masks = {file: self._mask(name, file) for file in files}
        record = {"finished": True, **dataclasses.asdict(timing)}
        self._write(name, {**record, "made_with": self._made_with[name], "masks": masks})

    def finished(self, name: str) -> Timing | None:
        """A finished sequence's timing; None if it is not, or was made with something else."""
        record = self._read(name)
        if record is None or not record.get("finished") or self._conflict(name):
            return None
        folder = self.annotations / name
        if not all((folder / mask).is_file() for mask in self.videos[name].written.values()):
            return None
        fields = [field.name for field in dataclasses.fields(Timing)]
        return Timing(**{f: record[f] for f in fields} | {"carried": tuple(record["carried"])})

    def _conflict(self, name: str) -> str:
        """Why what is there of a sequence cannot be gone on with; "" if it can, or nothing is."""
        record = self._read(name)
        if record is None:
            is_mask_there = any((self.annotations / name).glob("*.png"))
            return "has masks of unknown making" if is_mask_there else ""
        there, here = record.get("made_with") or {}, self._made_with[name]
        differs = [
            f"other {key.replace('_', ' ')}" if _is_digest(here.get(key))
            else f"{key} {there.get(key)} there and {here.get(key)} here"
            for key in sorted(there.keys() | here.keys())
            if there.get(key) != here.get(key)
        ]  # fmt: skip
        if differs:
            return f"was made with {', '.join(differs)}"
        if record.get("carried") and not self._carry:
            return f"skipped bad frames ({shortened(record['carried'])}), as --skip_bad allows"
        # One that is gone is made again; one that another put there is not ours to replace.
        written = record.get("masks", {}).items()
        changed = [mask for mask, then in written if self._mask(name, mask) not in (None, then)]
        return f"has masks that were changed since ({shortened(changed)})" if changed else ""

    def _mask(self, name: str, mask: str) -> str | None:
        """What a mask's file holds, as a digest; None if it is not there."""
        path = self.annotations / name / mask
        try:
            key = path, *_state(path)
            if key not in self._digests:
                self._digests[key] = digest(path.read_bytes())
        except OSError:
            return None
        return self._digests[key]

    def _scored(self) -> set[str]:
        """The sequences in scores.json."""
        try:
            return set(json.loads((self.folder / "scores.json").read_text())["sequences"])
        except (OSError, ValueError, KeyError, TypeError):
            return set()

    def _path(self, name: str) -> Path:
        return self.folder / "sequences" / f"{name}.json"

    def _read(self, name: str) -> dict | None:
        try:
            record = json.loads(self._path(name).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict):
            raise InputError(f"{self._path(name)} is damaged: remove it, and {name} is made anew")
        return record

    def _write(self, name: str, record: dict) -> None:
        with written_whole(self._path(name)) as part:
            part.write_text(json.dumps(record, indent=2) + "\n")


def digest(*parts: str | bytes) -> str:
    """A short text that stands for these parts: "sha256:..."."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return f"sha256:{sha.hexdigest()[:32]}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("sha256:")


def _inputs(video: EvalVideo) -> dict[str, str]:
    """A video's part of what its masks are made with."""
    starts = [(k, s.ids, s.merged, *_state(s.mask)) for k, s in video.starts.items()]
    return {
        "frames": digest(json.dumps([_state(path) for path in video.frames])),
        "first_masks": digest(json.dumps(starts)),
        "wanted_masks": digest(json.dumps(sorted(video.written.items()))),
    }


def _state(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns
