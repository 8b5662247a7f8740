"""The videos and frames of YouTube-VOS that are scored where the true masks exist.

An object is scored in the frames that meta.json lists for it and that have a true mask, except its
first, where its mask is given.
"""

from collections.abc import Collection
from pathlib import Path

from data_pipeline.datasets import youtube_vos
from qmra_jax.errors import InputError


def find_videos(
    truth: Path, split: str | None, names: Collection[str] | None = None
) -> tuple[list[youtube_vos.Video], int]:
    """The videos of a split to score, and the number of all its videos.

    Args:
      truth: root that contains `train`, `valid`, ...; or, with no split, one such folder itself.
      split: "train", "valid" or "valid_all_frames"; None: `truth` is the split's folder.
      names: these videos only.

    Raises:
      InputError: if the layout is not YouTube-VOS's, a video has faults, or a name is unknown.
    """
    truth = Path(truth)
    if split is None and not youtube_vos.has_layout(truth):
        raise InputError(
            f"{truth}: expected meta.json, JPEGImages and Annotations of YouTube-VOS; for a root"
            f" that holds such folders give the split, one of {', '.join(youtube_vos.SPLITS)}"
        )
    if split is not None and youtube_vos.has_layout(truth):
        raise InputError(
            f"{truth} is one split's folder itself, and holds no split {split!r}: give the folder"
            " above, or no split (--split all)"
        )
    split_videos = (
        youtube_vos.find_split(truth, split)
        if split is not None
        else youtube_vos.find_videos(truth, every_frame=False)
    )
    videos = split_videos.complete()
    if absent := sorted(set(names or ()) - {video.name for video in videos}):
        raise InputError(f"video {', '.join(absent)}: not in {split_videos.meta}")
    chosen = [video for video in videos if names is None or video.name in names]
    if not chosen:
        raise InputError(f"{split_videos.meta} and the folders beside it hold no videos")
    return chosen, len(videos)


def scored_frames(video: youtube_vos.Video) -> tuple[tuple[Path, ...], dict[int, tuple[int, ...]]]:
    """The masks of a video that count, and for which objects.

    Returns:
      The true masks of the frames in which any object is scored, in temporal order; and of each
      object id the indices into them, which may be none.

    Raises:
      InputError: if no object has any: the official `valid` keeps its ground truth.
    """
    masks = {path.stem: path for path in video.masks}
    scored = {}
    for o in video.objects:
        _, *later = sorted(o.listed, key=_time)
        scored[o.id] = [name for name in later if name in masks]
    names = sorted({name for frames in scored.values() for name in frames}, key=_time)
    if not names:
        raise InputError(
            f"video {video.name}: no object has a true mask after its first frame, so there is"
            " nothing to score (only the server has the ground truth of the official valid; score"
            " a part of train)"
        )
    index = {name: k for k, name in enumerate(names)}
    return (
        tuple(masks[name] for name in names),
        {id_: tuple(index[name] for name in frames) for id_, frames in scored.items()},
    )


def _time(frame: str) -> tuple[int, str]:
    """Sorts by number where names are not padded to one width."""
    return (int(frame) if frame.isdecimal() else 0), frame
