"""The paper's ablations (Table 3), the field's other reads, and aggregators: one change each.

    python train.py --config=configs/ablations.py:no_bca --workdir=runs/no_bca
    python train.py --config=configs/ablations.py:no_bca@youtube_vos --workdir=runs/no_bca

`NAME` changes configs/small.py, `NAME@BASE` another of `BASES` ("NAME@pretrain_static:coco" with
that one's own argument). A base that begins from another run (youtube_vos: `init_from`) wants one
that was pre-trained as NAME too: give it with --config.init_from. All of them, several seeds each,
and a table at the end:

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

# Name -> what it changes. The whole network is "full": the paper's "2stage (ours)", "w/ QMA",
# "w/ CRM" and "w/ EF" are all this one.
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
    # Table 3, Other Variations: EF are the extra frames of the memory
    "no_ef": {"eval.extra_frames": False},
    # How others read a memory: STCN, cosine similarity, top-k (STM's successors), KMN
    "l2": {"model.reader": "l2"},
    "cosine": {"model.reader": "cosine"},
    "topk": {"model.reader": "topk:k=30"},
    "kernel": {"model.reader": "kernel:sigma=7"},
    # What is made of a value and what was read beside it; "only" are weighed the query's channels,
    # or the memory's, and the others stay as they are
    "query_only": {"model.aggregator": "query_only"},
    "memory_only": {"model.aggregator": "memory_only"},
    "spatial": {"model.aggregator": "spatial"},
    # The network of configs/stm.py, which starts from a mask
    "stm": {f"model.{name}": value for name, value in stm.MODEL.items()},
}

# In the table's order; a row in no group stands at its end.
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

# Lin et al. 2021, Table 3, in percent as printed: J mean and J recall on DAVIS 2016's val, J of
# seen and of unseen categories on YouTube-VOS's valid; of ResNet-50, trained in two stages.
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
# Its last row is the whole network trained on more: full@pretrain_static:coco, then YouTube-VOS.
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
    config.lock()  # so that a setting that does not exist is refused
    config.update_from_flattened_dict(ABLATIONS[name])
    config.unlock()
    return config
