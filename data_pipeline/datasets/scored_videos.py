"""Which videos and frames of YouTube-VOS are scored, where the truth is at hand.

An object is scored in the frames that meta.json lists for it and that have a true mask, from the
one after its first: there it is given. Where it is not listed (it has left, or the frame is not
annotated), it is not scored.
"""

from collections.abc import Collection
from pathlib import Path

from data_pipeline.datasets import youtube_vos
from qmra_jax.errors import InputError


def find_videos(
    truth: Path, split: str | None, names: Collection[str] | None = None
) -> tuple[list[youtube_vos.Video], int]:
    """The videos of a split to score, and how many the split has in all.

    Args:
      truth: the root that holds `train`, `valid`, ...; or, with no split, one such folder itself.
      split: "train", "valid" or "valid_all_frames"; None for the folder itself.
      names: these videos only.

    Raises:
      InputError: if the layout is not YouTube-VOS's, a video is at fault, or a name is not there.
    """
    truth = Path(truth)
    if split is None and not youtube_vos.has_layout(truth):
        raise InputError(
            f"{truth}: expected meta.json, JPEGImages and Annotations of YouTube-VOS; for a root"
            f" that holds such folders give the split, one of {', '.join(youtube_vos.SPLITS)}"
        )
    if split is not None and youtube_vos.has_layout(truth):
        raise InputError(
            f"{truth} is one split's folder itself, so split {split!r} is not looked for in it:"
            " give the folder above, or no split (--split all)"
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
    """Which masks of a video count, and for which objects.

    Returns:
      The true masks of the frames that any object is scored in, in time order; and for each
      object's id the indices into them. An object without a frame to score has none.

    Raises:
      InputError: if no object has any: the official `valid` keeps its ground truth.
    """
    masks = {path.stem: path for path in video.masks}
    listed = {
        o.id: [name for name in sorted(set(o.listed), key=_time) if name in masks]
        for o in video.objects
    }
    first = {o.id: min(o.listed, key=_time) for o in video.objects}
    scored = {
        id_: [name for name in frames if name != first[id_]] for id_, frames in listed.items()
    }
    names = sorted({name for frames in scored.values() for name in frames}, key=_time)
    if not names:
        raise InputError(
            f"video {video.name}: no object has a true mask after its first frame, so there is"
            " nothing to score (the ground truth of the official valid is the server's alone; score"
            " a part of train)"
        )
    place = {name: k for k, name in enumerate(names)}
    return (
        tuple(masks[name] for name in names),
        {id_: tuple(place[name] for name in frames) for id_, frames in scored.items()},
    )


def _time(frame: str) -> tuple[int, str]:
    """YouTube-VOS's frames are named by numbers of one width; others' may not be."""
    return (int(frame) if frame.isdecimal() else 0), frame
