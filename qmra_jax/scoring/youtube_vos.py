"""Scoring as YouTube-VOS's server does, for videos whose ground truth is at hand.

Xu et al., "YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark", 2018: J and F are means
over the objects of categories that the training set has (seen) and of those that it lacks (unseen),
and the overall score is the mean of these four numbers. The server's ground truth is not public;
`train` has one, so a part kept back from training is scored here.

An object is scored in the frames that meta.json lists for it and that have a true mask, from the
one after its first: there it is given. Where it is not listed (it has left, or the frame is not
annotated), it is not scored.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.scoring.protocols import average

if TYPE_CHECKING:
    from data_pipeline.datasets.youtube_vos import Video

_SEEN = """
airplane ape bear bike bird boat bucket bus camel cat cow crocodile deer dog dolphin duck
eagle earless_seal elephant fish fox frisbee frog giant_panda giraffe hand hat hedgehog horse
knife leopard lion lizard monkey motorbike mouse others owl paddle parachute parrot penguin
person plant rabbit raccoon sedan shark sheep sign skateboard snail snake snowboard squirrel
surfboard tennis_racket tiger toilet train truck turtle umbrella whale zebra
"""
SEEN_CATEGORIES = frozenset(_SEEN.split())
"""The 65 categories of the official training sets of 2018 and 2019; every other one is unseen."""


def find_videos(
    truth: Path, split: str | None, names: Collection[str] | None = None
) -> "tuple[list[Video], int]":
    """The videos of a split to score, and how many the split has in all.

    Args:
      truth: the root that holds `train`, `valid`, ...; or, with no split, one such folder itself.
      split: "train", "valid" or "valid_all_frames"; None for the folder itself.
      names: these videos only.

    Raises:
      InputError: if the layout is not YouTube-VOS's, a video is at fault, or a name is not there.
    """
    from data_pipeline.datasets import youtube_vos

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
    found = (
        youtube_vos.find_split(truth, split)
        if split is not None
        else youtube_vos.find_videos(truth, every_frame=False)
    )
    videos = found.complete()
    if absent := sorted(set(names or ()) - {video.name for video in videos}):
        raise InputError(f"video {', '.join(absent)}: not in {found.meta}")
    chosen = [video for video in videos if names is None or video.name in names]
    if not chosen:
        raise InputError(f"{found.meta} and the folders beside it hold no videos")
    return chosen, len(videos)


def scored_frames(video: "Video") -> tuple[tuple[Path, ...], dict[int, tuple[int, ...]]]:
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
    scored = {id_: [name for name in own if name != first[id_]] for id_, own in listed.items()}
    names = sorted({name for own in scored.values() for name in own}, key=_time)
    if not names:
        raise InputError(
            f"video {video.name}: no object has a true mask after its first frame, so there is"
            " nothing to score (the ground truth of the official valid is the server's alone; score"
            " a part of train)"
        )
    place = {name: k for k, name in enumerate(names)}
    return (
        tuple(masks[name] for name in names),
        {id_: tuple(place[name] for name in own) for id_, own in scored.items()},
    )


def about(category: str, unseen: Collection[str] | None, name: str) -> dict:
    """An object's `category`, and whether it was `seen` in training.

    Args:
      category: of meta.json; may be empty where `unseen` is given.
      unseen: the categories that training lacked; None for all but `SEEN_CATEGORIES`.
      name: of the object, for the message.

    Raises:
      InputError: if the category is not known, and matters.
    """
    if unseen is None and not category:
        raise InputError(
            f"{name} has no category in meta.json, so seen and unseen cannot be told apart: give"
            " the unseen categories (--unseen; `none` counts all as seen)"
        )
    seen = category in SEEN_CATEGORIES if unseen is None else category not in unseen
    return {"category": category, "seen": seen}


def group_scores(objects: Collection[Mapping]) -> dict:
    """Seen and unseen apart, and their mean.

    Args:
      objects: the scores of each, with `seen`.

    Returns:
      `seen` and `unseen`, each `{"J", "F", "J&F", "objects": how many}`, or None where there is no
      such object; and `overall`, the mean of J and F of the groups that there are.
    """
    groups: dict = {}
    for name, seen in (("seen", True), ("unseen", False)):
        own = [dict(scores) for scores in objects if scores["seen"] is seen]
        groups[name] = {**average(own), "objects": len(own)} if own else None
    there = [group for group in groups.values() if group]
    return {**groups, "overall": float(np.mean([g[m]["mean"] for g in there for m in "JF"]))}


def _time(frame: str) -> tuple[int, str]:
    """YouTube-VOS's frames are named by numbers of one width; others' may not be."""
    return (int(frame) if frame.isdecimal() else 0), frame
