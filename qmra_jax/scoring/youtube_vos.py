"""Scoring as YouTube-VOS's server does, for videos whose ground truth is at hand.

Xu et al., "YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark", 2018: J and F are means
over the objects of categories that the training set has (seen) and of those that it lacks (unseen),
and the overall score is the mean of these four numbers. The server's ground truth is not public;
`train` has one, so a part kept back from training is scored here.

Which frames count, `data_pipeline.datasets.scored_videos` says.
"""

from collections.abc import Collection, Mapping

import numpy as np

from qmra_jax.errors import InputError
from qmra_jax.scoring.protocols import average

_SEEN = """
airplane ape bear bike bird boat bucket bus camel cat cow crocodile deer dog dolphin duck
eagle earless_seal elephant fish fox frisbee frog giant_panda giraffe hand hat hedgehog horse
knife leopard lion lizard monkey motorbike mouse others owl paddle parachute parrot penguin
person plant rabbit raccoon sedan shark sheep sign skateboard snail snake snowboard squirrel
surfboard tennis_racket tiger toilet train truck turtle umbrella whale zebra
"""
SEEN_CATEGORIES = frozenset(_SEEN.split())
"""The 65 categories of the official training sets of 2018 and 2019; every other one is unseen."""


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
        members = [dict(scores) for scores in objects if scores["seen"] is seen]
        groups[name] = {**average(members), "objects": len(members)} if members else None
    there = [group for group in groups.values() if group]
    return {**groups, "overall": float(np.mean([g[m]["mean"] for g in there for m in "JF"]))}
