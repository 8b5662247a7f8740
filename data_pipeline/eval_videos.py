"""Videos to evaluate on: the objects that enter in each frame, and the masks to write.

davis2016, davis2017   every object is in the first mask; a mask of every frame is written
youtube_vos            objects enter at their first listed frame; all frames are run, but masks are
                       written for the listed frames only, with the original ids
folder                 your own videos in the DAVIS layout: an id enters where a mask first shows
                       it; a mask of every frame is written
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from data_pipeline.datasets import davis, youtube_vos
from data_pipeline.datasets.scored_videos import find_videos, scored_frames
from qmra_jax.errors import InputError
from qmra_jax.masks import VOID, foreground, objects_in, read_labels

DATASETS = ("davis2016", "davis2017", "youtube_vos", "folder")


@dataclasses.dataclass(frozen=True)
class Entrance:
    """The objects that enter in one frame.

    Attributes:
      mask: label map that shows them; its other labels are ignored.
      ids: of the objects, ascending; (1,) where `merged`.
      merged: whether all labels are one object, as in DAVIS 2016.
    """

    mask: Path
    ids: tuple[int, ...]
    merged: bool = False

    def read(self) -> np.ndarray:
        """The objects' masks: bool `[n, h, w]`, in the order of `ids`."""
        labels = read_labels(self.mask)
        if self.merged:
            return foreground(labels)[None]
        return labels == np.asarray(self.ids, np.uint8)[:, None, None]


@dataclasses.dataclass(frozen=True)
class EvalVideo:
    """One video to evaluate on.

    Attributes:
      name: of its folder.
      frames: the images to run over, in temporal order.
      starts: index into `frames` -> the objects that enter there.
      written: index into `frames` -> the file name of the mask to write, "00005.png".
    """

    name: str
    frames: tuple[Path, ...]
    starts: Mapping[int, Entrance]
    written: Mapping[int, str]


@dataclasses.dataclass(frozen=True)
class EvalSet:
    """The videos of a split.

    Attributes:
      videos: the requested ones.
      protocol: for scoring their masks; None without ground truth.
      split: its list or folder; None: every video.
      year: folder of the split's list, in the DAVIS layout.
      unscored: why there is no protocol, else "".
      pairs: every existing mask after its frame, which must have the same size.
    """

    videos: tuple[EvalVideo, ...]
    protocol: str | None
    split: str | None
    year: str | None
    unscored: str
    pairs: tuple[tuple[Path, Path], ...]


def find_eval_videos(
    root: Path,
    dataset: str,
    *,
    split: str | None = None,
    names: Collection[str] | None = None,
    year: str | None = None,
) -> EvalSet:
    """The videos of a dataset's split, after a check that they are complete.

    Args:
      root: of the dataset.
      dataset: one of `DATASETS`.
      split: a list of ImageSets; of youtube_vos a folder such as "valid_all_frames". "all": every
        video (of youtube_vos: `root` is the split's folder itself). None: "val" of DAVIS, "valid"
        of YouTube-VOS, "all" of a folder.
      names: these videos of the split only.
      year: of DAVIS: folder of the split's list; None: the dataset's own.

    Raises:
      InputError: if a frame or a mask is missing, or an object is not visible where it enters.
    """
    root, every = Path(root), split == "all"
    if dataset == "youtube_vos":
        return _youtube_vos(root, None if every else split or "valid", names)
    if dataset == "folder":
        return _folder(root, None if every else split, names)
    if dataset in ("davis2016", "davis2017"):
        return _davis(root, None if every else split or "val", names, dataset, year)
    raise InputError(f"dataset {dataset!r}: expected one of {', '.join(DATASETS)}")


def _davis(
    root: Path, split: str | None, names: Collection[str] | None, protocol: str, year: str | None
) -> EvalSet:
    merged = protocol == "davis2016"
    year = year or protocol.removeprefix("davis")
    find = functools.partial(davis.find_sequences, root, year=year, split=split, names=names)
    sequences = find(masks="first")
    if all(len(sequence.annotations) == 1 for sequence in sequences):
        unscored = "only first masks exist, as in the challenges' test sets"
    else:
        sequences, unscored = find(masks="every"), ""

    def video(sequence: davis.Sequence) -> EvalVideo:
        first = sequence.annotations[0]
        labels = read_labels(first)
        ids = objects_in(labels)
        if merged:
            absent = [] if foreground(labels).any() else [1]
        else:
            absent = sorted(set(range(1, max(ids, default=1) + 1)) - set(ids))
        if absent:
            hint = "; 0/255 masks are davis2016's" if (labels == VOID).any() else ""
            raise InputError(
                f"mask {first} shows no object {', '.join(map(str, absent))}: expected every"
                f" object in the first frame{hint}"
            )
        start = Entrance(first, (1,) if merged else ids, merged)
        return EvalVideo(sequence.name, sequence.frames, {0: start}, _mask_names(sequence))

    if not unscored and (short := [s.name for s in sequences if len(s.frames) < 3]):
        raise InputError(
            f"sequence {', '.join(short)}: fewer than 3 frames, of which the first and the last are"
            " not scored; remove it from the split's list or leave it out"
        )
    videos = _in_threads(video, sequences)
    scored_by = None if unscored else protocol
    return EvalSet(videos, scored_by, split, year, unscored, _pairs(sequences))


def _folder(root: Path, split: str | None, names: Collection[str] | None) -> EvalSet:
    years = ("", "2017", "2016")
    year = next((y for y in years if split and davis.has_split(root, y, split)), "")
    sequences = davis.find_sequences(root, year=year, split=split, masks="some", names=names)

    def video(sequence: davis.Sequence) -> EvalVideo:
        starts: dict[int, Entrance] = {}
        seen: set[int] = set()
        for index, mask in zip(sequence.annotated, sequence.annotations, strict=True):
            labels = read_labels(mask)
            foreground(labels)  # refuses a blended 0/255 mask, whose greys would count as objects
            if new := tuple(sorted(set(objects_in(labels)) - seen)):
                starts[index] = Entrance(mask, new)
                seen |= set(new)
        if not starts:
            raise InputError(
                f"sequence {sequence.name}: no mask in {sequence.annotations[0].parent} shows an"
                " object, a label of 1 to 254; 0/255 masks need --dataset=davis2016 --split=all"
            )
        return EvalVideo(sequence.name, sequence.frames, starts, _mask_names(sequence))

    videos = _in_threads(video, sequences)
    unscored = next(filter(None, map(_why_unscored, sequences, videos)), "")
    protocol = None if unscored else "davis2017"
    return EvalSet(videos, protocol, split, year, unscored, _pairs(sequences))


def _why_unscored(sequence: davis.Sequence, video: EvalVideo) -> str:
    """Why DAVIS's protocol cannot score a folder's video, or ""."""
    frames, masks = len(sequence.frames), len(sequence.annotations)
    if masks < frames:
        return f"sequence {video.name} has masks of {masks} of its {frames} frames"
    if frames < 3:
        return f"sequence {video.name} has {frames} frames; the first and last are not scored"
    ids = video.starts[0].ids if 0 in video.starts else ()
    if len(video.starts) > 1 or ids != tuple(range(1, len(ids) + 1)):
        return f"objects of sequence {video.name} enter late or are not 1, 2, ..., as DAVIS's are"
    return ""


def _youtube_vos(root: Path, split: str | None, names: Collection[str] | None) -> EvalSet:
    sources, _ = find_videos(root, split, names)

    def video(source: youtube_vos.Video) -> EvalVideo:
        masks = dict(zip(source.annotated, source.masks, strict=True))
        visible = functools.cache(lambda index: objects_in(read_labels(masks[index])))
        # An object that its first listed frame does not show enters at the next mask that does.
        entries: dict[int, list[int]] = {}
        for o in source.objects:
            later = (k for k in source.annotated if k >= o.first_frame and o.id in visible(k))
            if (index := next(later, None)) is None:
                raise InputError(
                    f"video {source.name}: object {o.id} of meta.json is first listed in frame"
                    f" {source.frames[o.first_frame].stem}, but no mask from there on shows it"
                )
            entries.setdefault(index, []).append(o.id)
        begin = min(o.first_frame for o in source.objects)
        frames = source.frames[begin:]
        listed = {name for o in source.objects for name in o.listed}
        return EvalVideo(
            source.name,
            frames,
            {k - begin: Entrance(masks[k], tuple(ids)) for k, ids in sorted(entries.items())},
            {k: f"{path.stem}.png" for k, path in enumerate(frames) if path.stem in listed},
        )

    unscored = next(filter(None, map(_missing_truth, sources)), "")
    pairs = tuple(
        (v.frames[k], m) for v in sources for k, m in zip(v.annotated, v.masks, strict=True)
    )
    protocol = None if unscored else "youtube_vos"
    return EvalSet(_in_threads(video, sources), protocol, split, None, unscored, pairs)


def _missing_truth(video: youtube_vos.Video) -> str:
    """What is missing to score a video, or ""."""
    listed = {name for o in video.objects for name in o.listed}
    if absent := listed - {mask.stem for mask in video.masks}:
        return (
            f"video {video.name} has no true masks of {len(absent)} of its {len(listed)} listed"
            " frames; only the server has the ground truth of the official valid"
        )
    if nameless := [str(o.id) for o in video.objects if not o.category]:
        return (
            f"object {', '.join(nameless)} of video {video.name} has no category in meta.json, to"
            " tell seen from unseen; use `qmra score --unseen`"
        )
    try:
        scored_frames(video)
    except InputError as error:
        return str(error)
    return ""


def _mask_names(sequence: davis.Sequence) -> dict[int, str]:
    """A mask for every frame, named as the true mask where there is one."""
    names = {k: f"{path.stem}.png" for k, path in enumerate(sequence.frames)}
    true = zip(sequence.annotated, sequence.annotations, strict=True)
    return names | {k: mask.name for k, mask in true}


def _pairs(sequences: Iterable[davis.Sequence]) -> tuple[tuple[Path, Path], ...]:
    return tuple(
        (s.frames[k], mask)
        for s in sequences
        for k, mask in zip(s.annotated, s.annotations, strict=True)
    )


def _in_threads(make: Callable, sources: Iterable) -> tuple[EvalVideo, ...]:
    """Applies `make` to each source, in order; reading masks releases Python's lock."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return tuple(pool.map(make, sources))
