"""A folder of evaluation results that an interrupted run can resume and no other run corrupts.

    OUTPUT/Annotations/NAME/00000.png    palette PNGs
    OUTPUT/sequences/NAME.json           what the masks of NAME were made with, and the time taken
    OUTPUT/scores.json, *.csv            once every sequence is finished, if there is ground truth
    OUTPUT/results.zip                   for a benchmark's server

A sequence is finished when its record says so and its masks exist. It is reused only if it was made
with the same weights, options, frames, first masks, package version and platform, and its masks
are unchanged, byte for byte.
"""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from data_pipeline.datasets.davis import shortened
from data_pipeline.eval_videos import EvalVideo
from qmra_jax.errors import InputError
from qmra_jax.files import make_folder, written_whole
from qmra_jax.network.model import QMRA

_DERIVED = ("scores.json", "frames.json", "results.zip", "global_results-*", "per-sequence_*")


@dataclasses.dataclass(frozen=True)
class Timing:
    """The time taken by a sequence."""

    frames: int
    steps: int  # frames that were timed: where no object entered and nothing was compiled
    step_seconds: float  # in all, of these, until their results were on the host
    wall_seconds: float  # from opening the first frame to the last mask on disk
    carried: tuple[str, ...] = ()  # names of unreadable frames, which got the previous mask


class Results:
    """The results of one command in its output folder."""

    def __init__(
        self,
        folder: Path,
        videos: Sequence[EvalVideo],
        settings: Mapping[str, Any],
        *,
        skip_bad: bool = False,
    ):
        """Looks at the videos' files (names, sizes, times); writes nothing.

        Args:
          folder: the output folder.
          videos: of all shards.
          settings: JSON values that the masks depend on, apart from the videos.
          skip_bad: whether a finished sequence with unreadable frames may be reused.

        Raises:
          InputError: if the output folder is the dataset itself.
        """
        self.folder, self.annotations = Path(folder), Path(folder) / "Annotations"
        self.videos = {video.name: video for video in videos}
        self._skip_bad = skip_bad
        within = self.annotations.resolve()
        starts = (start for video in videos for start in video.starts.values())
        if any(start.mask.resolve().is_relative_to(within) for start in starts):
            raise InputError(
                f"output {folder} is the dataset itself, whose masks would be replaced: choose"
                " another --output"
            )
        self._made_with = {video.name: {**settings, **_inputs(video)} for video in videos}
        self._digests: dict[tuple, str] = {}  # by path, size and time of a mask

    def claim(self, *, overwrite: bool = False) -> list[EvalVideo]:
        """The unfinished videos, once the folder is known to be usable for them.

        Removes existing scores and zip if any video is unfinished.

        Args:
          overwrite: whether results made with other settings may be replaced. Results made with the
            same settings are always kept.

        Raises:
          InputError: if there are such results and `overwrite` is not set; says what differs.
        """
        conflicts = {name: why for name in self.videos if (why := self._conflict(name))}
        others = sorted(self._scored() - self.videos.keys())
        if (conflicts or others) and not overwrite:
            name, why = next(iter(conflicts.items()), (None, ""))
            more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
            what = f"sequence {name} {why}{more}" if name else f"scores of {shortened(others)}"
            raise InputError(
                f"output {self.folder} already holds results: {what}; choose another --output, or"
                " --overwrite to replace what differs"
            )
        make_folder(self.annotations)
        left = [v for v in self.videos.values() if v.name in conflicts or not self.finished(v.name)]
        for pattern in _DERIVED if left else ():
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        return left

    def begin(self, name: str) -> Path:
        """Records that a sequence is being made; returns its folder, emptied of masks."""
        self._write(name, {"finished": False, "made_with": self._made_with[name]})
        folder = self.annotations / name
        for old in folder.glob("*.png"):
            old.unlink()
        return folder

    def finish(self, name: str, timing: Timing) -> None:
        """Records that all masks of a sequence exist, with their digests."""
        files = sorted(self.videos[name].written.values())
        masks = {file: self._mask_digest(name, file) for file in files}
        record = {"finished": True, **dataclasses.asdict(timing)}
        self._write(name, {**record, "made_with": self._made_with[name], "masks": masks})

    def finished(self, name: str) -> Timing | None:
        """The timing of a finished sequence; None if it is unfinished or in conflict."""
        record = self._read(name)
        if record is None or not record.get("finished") or self._conflict(name):
            return None
        folder = self.annotations / name
        if not all((folder / mask).is_file() for mask in self.videos[name].written.values()):
            return None
        fields = [field.name for field in dataclasses.fields(Timing)]
        return Timing(**{f: record[f] for f in fields} | {"carried": tuple(record["carried"])})

    def pack(self, prefix: str) -> Path:
        """Writes the masks of all videos, finished before, to results.zip for a server.

        Args:
          prefix: of each name in the zip: "Annotations/" for YouTube-VOS; DAVIS's server expects
            the videos' folders at the top.
        """
        path = self.folder / "results.zip"
        # PNGs are deflated already.
        with written_whole(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, video in self.videos.items():
                for mask in sorted(video.written.values()):
                    archive.write(self.annotations / name / mask, f"{prefix}{name}/{mask}")
        return path

    def _conflict(self, name: str) -> str:
        """Why the existing results of a sequence cannot be continued; "" if they can."""
        record = self._read(name)
        if record is None:
            has_masks = any((self.annotations / name).glob("*.png"))
            return "has masks of unknown origin" if has_masks else ""
        old, new = record.get("made_with") or {}, self._made_with[name]
        differs = [
            f"other {key.replace('_', ' ')}" if _is_digest(new.get(key))
            else f"{key} {old.get(key)} instead of {new.get(key)}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]  # fmt: skip
        if differs:
            return f"was made with {', '.join(differs)}"
        if record.get("carried") and not self._skip_bad:
            return f"skipped bad frames ({shortened(record['carried'])}), as --skip_bad allows"
        # A lost mask is made again; a changed one may be someone's work.
        written = record.get("masks", {}).items()
        changed = [
            mask for mask, old in written if self._mask_digest(name, mask) not in (None, old)
        ]
        return f"has masks that were changed since ({shortened(changed)})" if changed else ""

    def _mask_digest(self, name: str, mask: str) -> str | None:
        """Digest of a mask's file; None if it does not exist."""
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
            raise InputError(f"{self._path(name)} is damaged: remove it to segment {name} again")
        return record

    def _write(self, name: str, record: dict) -> None:
        with written_whole(self._path(name)) as part:
            part.write_text(json.dumps(record, indent=2) + "\n")


def digest(*parts: str | bytes) -> str:
    """A short digest of these parts: "sha256:..."."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return f"sha256:{sha.hexdigest()[:32]}"


def model_digest(module: QMRA, variables: Mapping[str, Any]) -> str:
    """Digest of a network and its weights."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = ((name, np.asarray(flat[name]).tobytes()) for name in sorted(flat))
    return digest(repr(module), *(part for pair in arrays for part in pair))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("sha256:")


def _inputs(video: EvalVideo) -> dict[str, str]:
    """Digests of a video's files and of what is asked for."""
    starts = [(k, s.ids, s.merged, *_state(s.mask)) for k, s in video.starts.items()]
    return {
        "frames": digest(json.dumps([_state(path) for path in video.frames])),
        "first_masks": digest(json.dumps(starts)),
        "wanted_masks": digest(json.dumps(sorted(video.written.items()))),
    }


def _state(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns
