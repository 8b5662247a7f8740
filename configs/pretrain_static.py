"""The paper's first stage: triplets from still images (DUTS, HKU-IS, MSRA10K, SOC).

    python train.py --config=configs/pretrain_static.py --workdir=runs/pretrain \\
      --config.init.encoders=resnet50-0676ba61.pth

`--config=configs/pretrain_static.py:coco` adds COCO, as in the last row of the paper's Table 3.
`python -m data_pipeline.build` writes the datasets to $QMRA_DATA.

Hardware: the paper's four GTX 1080 Ti (11 GB) share the batch of 16; on one smaller GPU add
--config.grad_accumulation=4. Time: not measured by us, not given in the paper. Score: not given for
this stage; after configs/youtube_vos.py the paper reports J 0.842 on DAVIS 2016 val, 0.847 with
COCO. From the paper: data, triplets, 384x384 in batches of 16, Adam at a fixed 1e-5. Our choice:
100,000 steps, as the paper gives no number.
"""

from ml_collections import ConfigDict

from configs import common

STATIC = ("duts:train", "hku_is:train", "msra10k:train", "soc:train")
COCO = "coco_masks:train"


def get_config(extra: str = "") -> ConfigDict:
    """The pre-training stage; `extra` is "" or "coco"."""
    if extra not in ("", "coco"):
        raise ValueError(f"argument {extra!r}: expected coco after the colon, or none at all")
    config = common.get_config()
    config.data.static = (*STATIC, COCO) if extra else STATIC
    config.data.videos = ()
    config.data.video_share = ((0, 0.0),)
    config.batch_size = 16
    config.steps = 100_000
    config.checkpoint_every = 1000
    return config
