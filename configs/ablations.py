"""Ablations: the paper's (Table 3), other memory readers, and aggregators, one change each.

    python train.py --config=configs/ablations.py:no_bca --workdir=runs/no_bca
    python train.py --config=configs/ablations.py:no_bca@youtube_vos --workdir=runs/no_bca

`NAME` changes configs/small.py, `NAME@BASE` another of `BASES` (with that one's own argument:
"NAME@pretrain_static:coco"). A base that starts from another run (youtube_vos: `init_from`) needs
one that was pre-trained as NAME too: give it with --config.init_from. To train all of them with
several seeds each, and get a table:

    python -m benchmarks.ablation --workdir=runs/table3 --seeds=0,1,2
"""

from ml_collections import ConfigDict

from configs import pretrain_static, small, smoke, stm, youtube_vos

BASES = {
    "small": small,
    "smoke": smoke,
    "pretrain_static": pretrain_static,
    "youtube_vos": youtube_vos,
}

# The changed settings of each. "full" is the unchanged network: "2stage (ours)", "w/ QMA", "w/ CRM"
# and "w/ EF" in the paper.
ABLATIONS: dict[str, dict[str, object]] = {
    "full": {},
    # Table 3, Re-Aggregation Framework
    "1stage": {"model.stages": 1},
    "2stage_no_align": {"model.align": "mask"},
    "2stage_no_siam": {"model.siamese": False},
    # Table 3, Query-Memory Aggregation Module
    "no_qma": {"model.reader": "none", "model.aggregator": "none"},
    "no_bca": {"model.aggregator": "none"},
    # Table 3, Cascaded Refinement Module
    "no_crm": {"model.refine": "none"},
    "crm_no_coord": {"model.refine": "crm_no_coord"},
    # Table 3, Other Variations: extra frames (EF) in the memory
    "no_ef": {"eval.extra_frames": False},
    # Other memory readers: STCN, cosine similarity, top-k (successors of STM), KMN
    "l2": {"model.reader": "l2"},
    "cosine": {"model.reader": "cosine"},
    "topk": {"model.reader": "topk:k=30"},
    "kernel": {"model.reader": "kernel:sigma=7"},
    # Other aggregations of the query's value and the value read from the memory: attention on the
    # channels of only one of them, or over positions
    "query_only": {"model.aggregator": "query_only"},
    "memory_only": {"model.aggregator": "memory_only"},
    "spatial": {"model.aggregator": "spatial"},
    # The network of configs/stm.py, which starts from a mask
    "stm": {f"model.{name}": value for name, value in stm.MODEL.items()},
}

# In the order of the table; rows without a group come last.
GROUPS: dict[str, tuple[str, ...]] = {
    "whole": ("full",),
    "re-aggregation": ("1stage", "2stage_no_align", "2stage_no_siam"),
    "aggregation": ("no_qma", "no_bca"),
    "refinement": ("no_crm", "crm_no_coord"),
    "memory": ("no_ef",),
    "readers": ("l2", "cosine", "topk", "kernel"),
    "aggregators": ("query_only", "memory_only", "spatial"),
    "others": ("stm",),
}

# Lin et al. 2021, Table 3, in percent: J mean and J recall on DAVIS 2016 val, J of seen and of
# unseen categories on YouTube-VOS valid; with ResNet-50, trained in two stages.
PAPER: dict[str, tuple[float, float, float, float]] = {
    "full": (84.2, 95.6, 70.3, 56.7),
    "1stage": (81.4, 92.2, 67.4, 53.7),
    "2stage_no_align": (82.8, 94.8, 69.2, 55.3),
    "2stage_no_siam": (82.4, 92.0, 69.5, 55.7),
    "no_qma": (72.2, 81.5, 53.7, 32.2),
    "no_bca": (81.8, 93.0, 69.7, 55.3),
    "no_crm": (82.2, 91.4, 69.8, 55.5),
    "crm_no_coord": (82.8, 94.2, 70.3, 55.7),
    "no_ef": (82.5, 93.2, 69.7, 55.5),
}
# Its last row: the whole network with more data, full@pretrain_static:coco, then YouTube-VOS.
PAPER_WITH_COCO = (84.7, 96.7, 71.2, 58.1)

TABLE_3 = tuple(PAPER)


def get_config(text: str = "full") -> ConfigDict:
    """An ablation of a base config; `text` is "NAME" or "NAME@BASE"."""
    name, _, base = text.partition("@")
    base, colon, argument = (base or "small").partition(":")
    if name not in ABLATIONS:
        raise ValueError(f"ablation {name!r}: expected one of {', '.join(ABLATIONS)}")
    if base not in BASES:
        raise ValueError(f"base {base!r} of {text!r}: expected one of {', '.join(BASES)}")
    if colon and base != "pretrain_static":
        raise ValueError(f"base {base!r} of {text!r} takes no argument after a colon")
    config = BASES[base].get_config(*([argument] if colon else []))
    config.lock()  # an unknown setting is then an error
    config.update_from_flattened_dict(ABLATIONS[name])
    config.unlock()
    return config
