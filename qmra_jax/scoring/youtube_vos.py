"""Seen and unseen categories, and the overall score of YouTube-VOS.

Xu et al., "YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark", 2018: J and F are
averaged over objects of categories in the training set (seen) and of others (unseen); the overall
score is the mean of the four. The server's ground truth is not public, so videos of `train` that
were held out of training are scored.
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
"""The 65 categories of the official training sets of 2018 and 2019."""


def about(category: str, unseen: Collection[str] | None, name: str) -> dict:
    """An object's `category`, and whether training has `seen` it.

    Args:
      category: of meta.json; may be empty if `unseen` is given.
      unseen: the categories absent from training; None is all but `SEEN_CATEGORIES`.
      name: what messages call the object.

    Raises:
      InputError: if neither is known.
    """
    if unseen is None and not category:
        raise InputError(
            f"{name} has no category in meta.json: list the categories absent from training with"
            " --unseen (`--unseen none` counts all as seen)"
        )
    seen = category in SEEN_CATEGORIES if unseen is None else category not in unseen
    return {"category": category, "seen": seen}


def group_scores(objects: Collection[Mapping]) -> dict:
    """Averages seen and unseen objects separately.

    Args:
      objects: the scores of each, with `seen`.

    Returns:
      `seen` and `unseen`, each `{"J", "F", "J&F", "objects": count}` or None without objects; and
      `overall`, the mean of J and F of the groups present.
    """
    groups: dict = {}
    for name, seen in (("seen", True), ("unseen", False)):
        members = [dict(scores) for scores in objects if scores["seen"] is seen]
        groups[name] = {**average(members), "objects": len(members)} if members else None
    present = [group for group in groups.values() if group]
    return {**groups, "overall": float(np.mean([g[m]["mean"] for g in present for m in "JF"]))}
