"""Videos to evaluate on: which objects enter in which frame, and which masks are asked for.

davis2016, davis2017   every object is in the first mask; a mask of every frame is wanted
youtube_vos            objects enter at their first listed frame, all there are frames are run
                       over, and the listed frames alone are wanted, under the original ids
folder                 one's own videos in the DAVIS layout: an id enters where a mask first
                       shows it; a mask of every frame is wanted
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
    """Objects that enter in one frame.

    Attributes:
      mask: the label map that shows them; other labels in it do not matter.
      ids: of the objects, ascending; all labels are the one object 1 where `merged`.
      merged: DAVIS 2016's way.
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
      frames: the images to run over, in time order.
      starts: index into `frames` -> the objects that enter there.
      written: index into `frames` -> the file name of the mask that is wanted, "00005.png".
    """

    name: str
    frames: tuple[Path, ...]
    starts: Mapping[int, Entrance]
    written: Mapping[int, str]


@dataclasses.dataclass(frozen=True)
class EvalSet:
    """The videos of a split.

    Attributes:
      videos: those asked for.
      protocol: by which their masks are scored; None: there is no truth to score against.
      split: its list or folder; None for every video there is.
      year: the folder of the split's list, of the DAVIS layout.
      unscored: why there is no protocol; "" where there is.
      pairs: each mask there is, after its frame; the two should be of one size.
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
    """The videos of a dataset's split, known to be complete and to show objects where they enter.

    Args:
      root: of the dataset.
      dataset: one of `DATASETS`.
      split: a list of ImageSets; of youtube_vos a folder such as "valid_all_frames". "all" takes
        every video there is (of youtube_vos: `root` is the split's folder itself). None is "val" of
        DAVIS, "valid" of YouTube-VOS, "all" of a folder.
      names: these videos of the split only.
      year: of DAVIS: the folder of the split's list; None: the dataset's own.

    Raises:
      InputError: if a frame or a mask is missing, or an object does not show where it enters.
    """
    if dataset not in DATASETS:
        raise InputError(f"dataset {dataset!r}: expected one of {', '.join(DATASETS)}")
    find = {"youtube_vos": _youtube_vos, "folder": _folder}.get(
        dataset, functools.partial(_davis, year=year, merged=dataset == "davis2016")
    )
    default = {"youtube_vos": "valid", "folder": "all"}.get(dataset, "val")
    split = split or default
    return find(Path(root), None if split == "all" else split, names)


def _davis(
    root: Path,
    split: str | None,
    names: Collection[str] | None,
    *,
    year: str | None,
    merged: bool,
) -> EvalSet:
    protocol = "davis2016" if merged else "davis2017"
    year = year or protocol.removeprefix("davis")
    find = functools.partial(davis.find_sequences, root, year=year, split=split, names=names)
    sequences = find(masks="first")
    unscored = "only first masks are there, as in the challenges' test sets"
    if not all(len(sequence.annotations) == 1 for sequence in sequences):
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
        return EvalVideo(sequence.name, sequence.frames, {0: start}, _all_names(sequence))

    if not unscored and (short := [s.name for s in sequences if len(s.frames) < 3]):
        raise InputError(
            f"sequence {', '.join(short)}: fewer than 3 frames, and the first and the last are not"
            " scored; leave it out of the split's list, or of what is evaluated"
        )
    videos = _in_threads(video, sequences)
    scored_by = None if unscored else protocol
    return EvalSet(videos, scored_by, split, year, unscored, _davis_pairs(sequences))


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
                " object, a label of 1 to 254; 0/255 masks are for --dataset=davis2016 --split=all"
            )
        return EvalVideo(sequence.name, sequence.frames, starts, _all_names(sequence))

    videos = _in_threads(video, sequences)
    reasons = (_why_unscored(s, v) for s, v in zip(sequences, videos, strict=True))
    unscored = next((reason for reason in reasons if reason), "")
    protocol = None if unscored else "davis2017"
    return EvalSet(videos, protocol, split, year, unscored, _davis_pairs(sequences))


def _why_unscored(sequence: davis.Sequence, video: EvalVideo) -> str:
    """What of a folder's video DAVIS's protocol cannot score; "" if nothing."""
    frames, masks = len(sequence.frames), len(sequence.annotations)
    if masks < frames:
        return f"sequence {video.name} has masks of {masks} of its {frames} frames"
    if frames < 3:
        return f"sequence {video.name} has {frames} frames, and the first and last do not count"
    ids = video.starts[0].ids if 0 in video.starts else ()
    if len(video.starts) > 1 or ids != tuple(range(1, len(ids) + 1)):
        return f"objects of sequence {video.name} enter late or are not 1, 2, ..., as DAVIS's are"
    return ""


def _youtube_vos(root: Path, split: str | None, names: Collection[str] | None) -> EvalSet:
    found, _ = find_videos(root, split, names)

    def video(source: youtube_vos.Video) -> EvalVideo:
        masks = dict(zip(source.annotated, source.masks, strict=True))
        shown = functools.cache(lambda index: objects_in(read_labels(masks[index])))
        # Where its first listed frame does not show an object yet, the next mask that does counts.
        entries: dict[int, list[int]] = {}
        for o in source.objects:
            later = (k for k in source.annotated if k >= o.first_frame and o.id in shown(k))
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

    unscored = next((reason for reason in map(_without_truth, found) if reason), "")
    pairs = tuple(
        (v.frames[k], m) for v in found for k, m in zip(v.annotated, v.masks, strict=True)
    )
    protocol = None if unscored else "youtube_vos"
    return EvalSet(_in_threads(video, found), protocol, split, None, unscored, pairs)


def _without_truth(video: youtube_vos.Video) -> str:
    """What is missing to score a video; "" if nothing."""
    listed = {name for o in video.objects for name in o.listed}
    if absent := listed - {mask.stem for mask in video.masks}:
        return (
            f"video {video.name} has no true masks of {len(absent)} of its {len(listed)} listed"
            " frames; the ground truth of the official valid is the server's alone"
        )
    if nameless := [str(o.id) for o in video.objects if not o.category]:
        return (
            f"object {', '.join(nameless)} of video {video.name} has no category in meta.json, so"
            " seen and unseen cannot be told apart; `qmra score --unseen` can be told"
        )
    try:
        scored_frames(video)
    except InputError as error:
        return str(error)
    return ""


def _all_names(sequence: davis.Sequence) -> dict[int, str]:
    """A mask for every frame, named as the truth's where there is one."""
    names = {k: f"{path.stem}.png" for k, path in enumerate(sequence.frames)}
    true = zip(sequence.annotated, sequence.annotations, strict=True)
    return names | {k: mask.name for k, mask in true}


def _davis_pairs(sequences: Iterable[davis.Sequence]) -> tuple[tuple[Path, Path], ...]:
    return tuple(
        (s.frames[k], mask)
        for s in sequences
        for k, mask in zip(s.annotated, s.annotations, strict=True)
    )


def _in_threads(make: Callable, sources: Iterable) -> tuple[EvalVideo, ...]:
    """`make` of each source, in order; reading masks releases the interpreter's lock."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return tuple(pool.map(make, sources))
